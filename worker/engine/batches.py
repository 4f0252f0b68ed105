"""How pairs are put into batches: sorted by tokens, laid end to end, without padding.

A batch is one long row of tokens. All that a transformer does token by token (nearly all of its
work) runs over that row; only attention needs to know where a pair ends, and sees the pairs in
groups of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contract.errors import BadScores
from worker.engine.tokens import PairTokens, SpecialIds

Ids = npt.NDArray[np.int32]

#: One number a pair, or a row of them.
Scores = npt.NDArray[np.float32]

#: Rows of a batch are rounded up to this: oneDNN prepares its kernels once for each number of rows,
#: which takes as long as a few hundred rows of a small model.
ROUND_ROWS_TO = 16


@dataclass(frozen=True)
class Group:
    """Pairs of one batch that have, or are padded to, the same number of tokens."""

    #: The first row, the number of pairs, and the rows of each.
    start: int
    pairs: int
    length: int
    #: Own lengths of the pairs, if not all are `length`.
    lengths: tuple[int, ...] | None

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.pairs * self.length)


@dataclass(frozen=True)
class Batch:
    """Pairs laid end to end, in `rows` rows."""

    #: Of each row: the token's id, its place in its pair, and 0 (query) or 1 (document).
    ids: Ids
    positions: Ids
    types: Ids
    groups: tuple[Group, ...]

    @property
    def pairs(self) -> int:
        return sum(group.pairs for group in self.groups)


def cut(
    lengths: Sequence[int],
    max_tokens: int,
    share_among: int = 1,
    least_share: int = 1,
    *,
    padded: bool = False,
) -> Iterator[list[int]]:
    """Places of `lengths`, longest first, in batches of at most `max_tokens` tokens together.

    With `share_among` threads the batches are made smaller where that gives each an equal share of
    `least_share` tokens or more. If a batch is `padded`, each place counts as much as the longest
    of its batch. One place alone may exceed the budget: it still has to be scored.
    """
    budget = max_tokens
    if share_among > 1:
        rounds = max(1, -(-sum(lengths) // (max_tokens * share_among)))
        equal = -(-sum(lengths) // (rounds * share_among))
        budget = min(max_tokens, max(least_share, equal))
    batch: list[int] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        own = lengths[batch[0]] if batch and padded else lengths[place]
        if batch and tokens + own > budget:
            yield batch
            batch, tokens, own = [], 0, lengths[place]
        batch.append(place)
        tokens += own
    if batch:
        yield batch


def in_order(batches: Sequence[list[int]], scores: Sequence[Scores]) -> Scores:
    """The scores of all batches, each at its pair's place. Raises `BadScores` on a wrong number."""
    for batch, own in zip(batches, scores, strict=True):
        if len(own) != len(batch):
            raise BadScores(f"{len(own)} scores for {len(batch)} pairs")
    places = [place for batch in batches for place in batch]
    together = np.concatenate(scores)
    ordered = np.empty_like(together)
    ordered[places] = together
    return ordered


def grouped(lengths: Sequence[int], slack: int = 0) -> Iterator[tuple[int, int]]:
    """Where groups begin and end in `lengths`, which fall: up to `slack` tokens of padding each."""
    first = 0
    for place in range(1, len(lengths) + 1):
        if place == len(lengths) or lengths[first] - lengths[place] > slack:
            yield first, place
            first = place


def lay_out(pairs: Sequence[PairTokens], special: SpecialIds, slack: int = 0) -> Batch:
    """The batch of these pairs, which must come longest first."""
    lengths = [pair.length for pair in pairs]
    groups = []
    room = np.empty(len(pairs), np.int32)  # rows of each pair, padding included
    start = 0
    for first, end in grouped(lengths, slack):
        longest = lengths[first]
        own = tuple(lengths[first:end]) if lengths[end - 1] < longest else None
        groups.append(Group(start, end - first, longest, own))
        room[first:end] = longest
        start += (end - first) * longest
    rows = -(-start // ROUND_ROWS_TO) * ROUND_ROWS_TO
    begins = np.cumsum(room) - room
    positions = np.zeros(rows, np.int32)
    positions[:start] = np.arange(start, dtype=np.int32) - np.repeat(begins, room)
    types = np.zeros(rows, np.int32)
    of_query = np.array([len(pair.query) + 2 for pair in pairs], np.int32)  # with [CLS] and [SEP]
    types[:start] = positions[:start] >= np.repeat(of_query, room)
    return Batch(_ids(pairs, room, rows, special), positions, types, tuple(groups))


def _ids(pairs: Sequence[PairTokens], room: Ids, rows: int, special: SpecialIds) -> Ids:
    """[CLS] query [SEP] document [SEP] of each pair, and padding where it has more room."""
    parts: list[Ids] = []
    filled = 0
    for pair, space in zip(pairs, room.tolist(), strict=True):
        parts += (special.cls, pair.query, special.sep, pair.document, special.sep)
        if pair.length < space:
            parts.append(special.padding(space - pair.length))
        filled += space
    parts.append(special.padding(rows - filled))
    return np.concatenate(parts)
