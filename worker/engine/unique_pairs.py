"""Score each of several pairs once, however often it occurs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.errors import BadScores
from contract.passages import PassageColumns
from contract.printable import counted
from worker.engine.batches import wrong_number
from worker.engine.protocol import BeforeBatch, Engine, Pair, do_nothing
from worker.engine.statistics import BatchStatistics


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of some pairs, in the caller's order, and the work they took."""

    #: One raw logit per pair, or a list of them if the model has several labels. If the model has
    #: its own activation function (neither identity nor sigmoid), its output.
    logits: list[Any]
    #: The number of unique pairs.
    unique_pairs: int
    #: Tokens of the unique pairs, after truncation.
    tokens: int
    #: About how many tokens of each of all pairs (not only of the unique ones) were not read.
    lost: list[int]
    #: The passages that the scores are from, and the number of distinct ones; None if documents
    #: were not cut.
    passages: PassageColumns | None = None
    passages_scored: int | None = None

    @property
    def truncated(self) -> list[bool]:
        """Return which of all pairs were not read completely."""
        return [tokens > 0 for tokens in self.lost]


def score_unique(
    engine: Engine,
    pairs: Sequence[Pair],
    before_batch: BeforeBatch = do_nothing,
    statistics: BatchStatistics | None = None,
    *,
    small_batches: bool = False,
) -> ScoredPairs:
    """Score each unique pair once.

    Raises `BadScores` for invalid scores, and all errors of the engine.
    """
    numbers: dict[Pair, int] = {}
    unique = [numbers.setdefault((query, text), len(numbers)) for query, text in pairs]
    output = engine.run(list(numbers), before_batch, statistics, small_batches=small_batches)
    if len(output.scores) != len(numbers):
        raise wrong_number(len(output.scores), len(numbers))
    bad = int(np.sum(~np.isfinite(output.scores)))
    if bad:
        verb = "is" if bad == 1 else "are"
        raise BadScores(
            f"{bad} of {counted(output.scores.size, 'score')} {verb} not finite (NaN or infinity)"
        )
    return ScoredPairs(
        logits=output.scores[unique].tolist() if unique else [],
        unique_pairs=len(numbers),
        tokens=output.tokens,
        lost=[output.lost[number] for number in unique],
    )
