"""What an engine is: a loaded model that scores pairs of a query and a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.engine.backoff import BatchBudget
from worker.engine.batches import ScoreArray
from worker.engine.statistics import BatchStatistics

#: A query and a document.
Pair = tuple[str, str]
#: Called before each batch; what it raises ends the run.
BeforeBatch = Callable[[], object]


def do_nothing() -> None:
    """Do nothing before a batch."""


@dataclass(frozen=True)
class EngineOutput:
    """What became of some pairs, in their order."""

    #: [pairs], or [pairs, labels] for a model with several.
    scores: ScoreArray
    #: Tokens of all pairs, after truncation.
    tokens: int
    #: Which of the pairs were longer than the model reads.
    truncated: list[bool]


class Engine(Protocol):
    """A loaded model, for one caller at a time."""

    @property
    def backend(self) -> str:
        """What scores, for a result's provenance."""

    @property
    def dtype(self) -> str:
        """The precision of its weights."""

    @property
    def max_length(self) -> int:
        """Tokens of a pair that it reads."""

    @property
    def labels(self) -> int:
        """Scores that it gives each pair."""

    @property
    def budget(self) -> BatchBudget:
        """Tokens of a batch."""

    @property
    def batches_at_once(self) -> int:
        """Number of batches that are scored at the same time."""

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        """Score the pairs, with the longest first.

        What it takes is noted in `statistics`. `small_batches` takes less memory, and more time.
        """
