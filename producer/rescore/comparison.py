"""Compare the results of two models for the same collection.

Memory does not grow with the number of queries. The journals of both models are read in parallel,
one line of each at a time, in the order of the input.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from contract.errors import InvalidInput, RerankError
from contract.passages import Passages
from producer.client.columns import ColumnsClient
from producer.formats.records import InvalidLines
from producer.rescore import journal_lines, runner
from producer.rescore.evaluation import Evaluation
from producer.rescore.finished_run import FinishedRun
from producer.rescore.journal import Journal
from producer.rescore.options import Cascade, Options
from producer.rescore.progress import Progress
from producer.rescore.ranking_changes import ComparisonSummary, compare_query
from producer.rescore.staging import Staging


@dataclass(frozen=True)
class ModelRun:
    """The scoring of the whole collection by one model."""

    model: str
    #: The commit or fingerprint of the model; None if it is not known.
    revision: str | None
    progress: Progress
    seconds: float
    #: How long documents were cut into passages; None if they were truncated.
    passages: Passages | None = None
    #: The scoring by each model of a cascade, the small one first.
    passes: tuple[ModelRun, ...] = ()

    @property
    def name(self) -> str:
        """Return the model and its passages, for people."""
        cut = f", passages {self.passages.key}" if self.passages and not self.passes else ""
        return f"{self.model}{cut}"

    @property
    def pairs_per_s(self) -> float:
        """Return the speed of the model, in pairs per second; of a cascade, in those of the run."""
        return self.progress.pairs / self.seconds

    @classmethod
    def of_passes(cls, cascade: Cascade, small: Self, large: Self) -> Self:
        """Return the scoring of the whole collection by a cascade."""
        name = f"{small.model}, then {large.model} for the best {cascade.keep:,}"
        seconds = small.seconds + large.seconds
        return cls(name, large.revision, small.progress, seconds, large.passages, (small, large))


@dataclass(frozen=True)
class ComparisonReport:
    """The results of the comparison, after both models have scored."""

    runs: tuple[ModelRun, ModelRun]
    summary: ComparisonSummary
    #: The measures of each model, if there are judgments.
    measures: tuple[Evaluation, Evaluation] | None

    @property
    def is_of_cascade(self) -> bool:
        """Return whether the second run is that of a cascade with the first model."""
        return bool(self.runs[1].passes)

    @property
    def time_saved(self) -> float:
        """Return the share of the first run's time that the second one saves."""
        return 1 - self.runs[1].seconds / self.runs[0].seconds

    @property
    def speedup(self) -> float:
        """Return the speed of the second model divided by that of the first."""
        return self.runs[1].pairs_per_s / self.runs[0].pairs_per_s


def check_models(
    models: Sequence[str], cascade: Cascade | None = None, passages: Passages | None = None
) -> tuple[str, str]:
    """Return the two models to compare, the baseline first; of a cascade, the large one first.

    One model is compared with itself with passages. Raises `InvalidInput` unless there are exactly
    two different models otherwise.
    """
    if cascade:
        if len(models) != 1:
            raise InvalidInput(
                "with --cascade, pass --model once, for the large model: it is compared with its"
                f" cascade (found {len(models)})"
            )
        cascade.check_other(models[0])
        return models[0], cascade.model
    if len(models) == 1 and passages:
        return models[0], models[0]
    if len(models) != 2:
        raise InvalidInput(
            "pass --model twice, for the baseline and for the model to compare with it, or once"
            f" with --cascade or --passages (found {len(models)})"
        )
    if models[0] == models[1]:
        raise InvalidInput(f"both --model options are {models[0]!r}; pass two different models")
    return models[0], models[1]


def compare(staging: Staging, a: Journal, b: FinishedRun) -> ComparisonSummary:
    """Compare two runs of the whole collection.

    Queries that failed in either run are counted and excluded, so that both runs are then
    evaluated on the same queries.
    """
    summary = ComparisonSummary()
    for one, other in zip(a.lines(), b.lines(), strict=True):
        query_id: str = one["query_id"]
        if journal_lines.has_ranking(one) and journal_lines.has_ranking(other):
            before, after = map(journal_lines.scores, (one, other))
            summary.add(compare_query(query_id, dict(before), dict(after)))
        else:
            summary.add_failed(query_id)
            staging.exclude(query_id)
    return summary


def find_other_model(journal: Journal, model: str) -> str | None:
    """Return a sentence about a query scored by another model, and the reason; None if none was."""
    for line in journal.lines():
        source = line.get("provenance")
        if source and (source["downgraded"] or source["model"] != model):
            why = f": {source['reason']}" if source.get("reason") else ""
            return f"query {line['query_id']!r} was scored by {source['model']}, not {model}{why}"
    return None


def warm_up(
    client: ColumnsClient,
    asked: Options,
    window: int,
    folder: Path,
    notify: Callable[[str], object],
) -> None:
    """Send `window` small jobs at once, so that all processes of the workers load the model.

    A model that cannot be loaded is then found before anything is scored, and the time to load does
    not count as scoring. `folder` is for temporary files. Raises `RerankError` with the worker's
    message, or the errors of `runner.rescore`.
    """
    source = folder / "warm-up.jsonl"
    lines = (
        json.dumps({"query_id": str(n), "query": "q", "candidates": [{"id": "d", "text": "d"}]})
        for n in range(window)
    )
    source.write_text("\n".join(lines))
    options = dataclasses.replace(asked, window=window, pairs_per_job=1)
    with Staging(client.settings, InvalidLines()) as staging:
        staging.load_requests(str(source))
        with Journal(str(folder / "warm-up"), staging) as journal:
            progress = runner.rescore(client, journal, options, lambda _: None, notify)
    if progress.first_failure is not None:
        code = next(iter(progress.codes))
        raise RerankError(
            f"a worker could not score with {asked.model!r} ({code}): {progress.first_failure}"
        )


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the increase of each measure."""
    return {name: after[name] - value for name, value in before.items()}
