"""The input files of a run: in TREC format with queries and a corpus, or as request lines."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Self

from contract.errors import InvalidInput
from producer.files import conflicts
from producer.files.reading import STDIN
from producer.files.streams import descriptor_of
from producer.formats import ir_dataset
from producer.rescore.staging import Counts, Staging


@dataclass(frozen=True)
class InputFiles:
    """File names from the options of the same names; `-` is standard input."""

    corpus: str | None = None
    queries: str | None = None
    run: str | None = None
    requests: str | None = None
    qrels: str | None = None
    #: Whether ir_datasets may download what its cache lacks.
    download: bool = False

    def with_dataset(self, dataset_id: str | None) -> Self:
        """Return the files, with the parts of a dataset for those that are missing.

        Raises `InvalidInput` if the dataset is unknown, or if there is no run.
        """
        if dataset_id is None:
            return self
        if self.requests:
            raise InvalidInput("pass either --input or --dataset")
        name = ir_dataset.name_of(dataset_id)
        if not self.run and not ir_dataset.has_run(dataset_id):
            raise InvalidInput(f"{name}: the dataset has no scoreddocs; pass a run with --run")
        judged = ir_dataset.has_judgments(dataset_id)
        return replace(
            self,
            corpus=self.corpus or name,
            queries=self.queries or name,
            run=self.run or name,
            qrels=self.qrels or (name if judged else None),
        )

    def check(self) -> None:
        """Raise `InvalidInput` if the combination of files is invalid."""
        if self.requests and (self.corpus or self.queries or self.run):
            raise InvalidInput("pass either --input, or --corpus, --queries and --run")
        if not self.requests and not (self.corpus and self.queries and self.run):
            raise InvalidInput("pass --corpus, --queries and --run, or --input, or --dataset")
        names = filter(None, self._by_option().values())
        if sum(map(_is_standard_input, names)) > 1:
            raise InvalidInput("only one file can be read from standard input (-)")

    def check_choices(self, columns: Iterable[str], formats: Iterable[str]) -> None:
        """Raise `InvalidInput` if a column or a format is chosen for a file that is missing."""
        files = self._by_option()
        chosen = [("--column", name) for name in columns]
        chosen += [("--input-format", name) for name in formats]
        for choice, name in chosen:
            option = f"--{name.partition('.')[0]}"
            if not files[option]:
                raise InvalidInput(f"{choice} {name} has no effect without {option}")

    def uses(self) -> list[conflicts.FileUse]:
        """Return the files that are read; raise `InvalidInput` if output is printed to one."""
        uses = [
            use
            for option, name in self._by_option().items()
            if not (name and ir_dataset.is_dataset(name))
            for use in conflicts.input_uses(option, name)
        ]
        conflicts.check(uses, [conflicts.FileUse("standard error", "", 2)])
        return uses

    def load(self, staging: Staging) -> Counts:
        """Load the files, after `check`. Raises `InvalidInput`."""
        names = filter(None, self._by_option().values())
        has_dataset = any(map(ir_dataset.is_dataset, names))
        with ir_dataset.without_downloads() if has_dataset and not self.download else nullcontext():
            if self.requests:
                staging.load_requests(self.requests)
            elif self.run and self.queries and self.corpus:
                staging.load_run(self.run, self.queries, self.corpus)
            if self.qrels:
                staging.load_qrels(self.qrels)
        return staging.counts()

    def _by_option(self) -> dict[str, str | None]:
        return {
            "--corpus": self.corpus,
            "--queries": self.queries,
            "--run": self.run,
            "--input": self.requests,
            "--qrels": self.qrels,
        }


def _is_standard_input(name: str) -> bool:
    try:
        return name == STDIN or descriptor_of(name) == 0
    except OSError:  # such as a name that is too long
        return False
