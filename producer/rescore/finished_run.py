"""Write the files of a run from its rankings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from producer.files.outputs import OutputFile, atomic_file
from producer.rescore import journal_lines, run_writers
from producer.rescore.shards import Shard
from producer.rescore.staged_query import StagedQuery


class FinishedRun(ABC):
    """The rankings of all queries."""

    #: Whether the same command, started again, continues with the journal and the jobs in flight.
    resumable = False

    @property
    @abstractmethod
    def shard(self) -> Shard | None:
        """Return the shard that is scored, unless it is the whole run."""

    @abstractmethod
    def record_shard(
        self, shard: Shard, format_name: str, output: str, results: str | None
    ) -> None:
        """Record that the files of a shard are complete, so that they can be merged."""

    @abstractmethod
    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the line of each query, parsed, in the order of the input.

        Raises `InvalidInput` if a journal is damaged.
        """

    @abstractmethod
    def staged_query(self, query_id: str) -> StagedQuery:
        """Return a query with all its candidates."""

    def write_run(self, output: str | OutputFile, format_name: str = "trec") -> None:
        """Write the run, with ranks from 1, the models' raw scores, and the models as tag.

        In a cascade, the scores of the small model are lowered: see `journal_lines.scores`.
        """
        with atomic_file(output) as file:
            run_writers.FORMATS[format_name].write(file, self.lines(), self.staged_query)

    def write_results(self, output: str | OutputFile) -> None:
        """Write a line for each query, with an object for each document; or rows of Parquet."""
        with atomic_file(output) as file:
            name = output if isinstance(output, str) else output.name
            if run_writers.is_parquet_name(name):
                run_writers.write_results_parquet(file, self.lines())
                return
            for line in self.lines():
                file.write(journal_lines.result_line(line))
