"""The engine interface: a loaded model that scores pairs of a query and a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.engine.backoff import BatchBudget
from worker.engine.batches import ScoreArray
from worker.engine.pieces import Pieces
from worker.engine.statistics import BatchStatistics

#: A query and a document.
Pair = tuple[str, str]
#: Called before each batch. An exception from it ends the run.
BeforeBatch = Callable[[], object]


def do_nothing() -> None:
    """Do nothing before a batch."""


@dataclass(frozen=True)
class EngineOutput:
    """The results for some pairs, in their order."""

    #: Shape [pairs], or [pairs, labels] for a model with several labels.
    scores: ScoreArray
    #: Tokens of all pairs, after truncation.
    tokens: int
    #: About how many tokens of each pair were not read, because it is longer than the model reads.
    lost: list[int]

    @property
    def truncated(self) -> list[bool]:
        """Return which of the pairs were longer than the model reads."""
        return [tokens > 0 for tokens in self.lost]


class Engine(Protocol):
    """A loaded model. It serves one caller at a time."""

    @property
    def backend(self) -> str:
        """The name of the implementation, for the provenance of a result."""

    @property
    def dtype(self) -> str:
        """The precision of the weights."""

    @property
    def max_length(self) -> int:
        """The number of tokens of a pair that it reads."""

    @property
    def labels(self) -> int:
        """The number of scores per pair."""

    @property
    def budget(self) -> BatchBudget:
        """The token budget of a batch."""

    @property
    def batches_at_once(self) -> int:
        """The number of batches that are scored at the same time."""

    def room(self, query: str) -> int:
        """Return how many tokens a passage may have next to this query."""

    def pieces(self, text: str) -> Pieces:
        """Return where a text may be cut. Raises `ScoringError` if that cannot be known."""

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        """Score the pairs, longest first, and record batches in `statistics`.

        `small_batches` saves memory and takes more time.
        """
