"""Batching: sort pairs by length and split them within a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from contract.errors import BadScores
from contract.printable import counted

#: Shape [pairs], or [pairs, labels].
ScoreArray = npt.NDArray[np.float32]


def make_batches(
    lengths: Sequence[int],
    max_tokens: int,
    share_among: int = 1,
    least_share: int = 1,
    *,
    padded: bool = False,
) -> Iterator[list[int]]:
    """Yield the indexes of `lengths`, longest first, in batches of at most `max_tokens` tokens.

    With `share_among` threads, batches are smaller if that lets each thread have an equal share of
    at least `least_share` tokens. In a `padded` batch, each pair counts as many tokens as the
    longest. A single pair may exceed the budget, because it has to be scored anyway.
    """
    budget = max_tokens
    if share_among > 1:
        rounds = max(1, -(-sum(lengths) // (max_tokens * share_among)))
        equal = -(-sum(lengths) // (rounds * share_among))
        budget = min(max_tokens, max(least_share, equal))
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        counted = lengths[batch[0]] if batch and padded else lengths[index]
        if batch and tokens + counted > budget:
            yield batch
            batch, tokens, counted = [], 0, lengths[index]
        batch.append(index)
        tokens += counted
    if batch:
        yield batch


def restore_order(batches: Sequence[list[int]], scores: Sequence[ScoreArray]) -> ScoreArray:
    """Return the scores of all batches in the order of the pairs.

    Raises `BadScores` if the number of scores differs from the number of pairs.
    """
    for batch, batch_scores in zip(batches, scores, strict=True):
        if len(batch_scores) != len(batch):
            raise wrong_number(len(batch_scores), len(batch))
    indexes = [index for batch in batches for index in batch]
    in_batches = np.concatenate(scores)
    in_order = np.empty_like(in_batches)
    in_order[indexes] = in_batches
    return in_order


def wrong_number(scores: int, pairs: int) -> BadScores:
    """Return the error for a model that returned the wrong number of scores."""
    return BadScores(f"the model returned {counted(scores, 'score')} for {counted(pairs, 'pair')}")
