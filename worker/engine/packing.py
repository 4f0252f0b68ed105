"""The memory layout of a batch: concatenated pairs, without padding.

A batch is one long row of tokens. Nearly all of a transformer's work is done per token and runs
over that row. Only attention depends on where a pair ends, so it handles pairs in groups of the
same length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engine.tokens import PairLayout, PairTokens

Ids = npt.NDArray[np.int32]

#: The rows of a batch are rounded up to this. For each new number of rows, oneDNN prepares kernels,
#: which takes as long as a few hundred rows of a small model.
ROUND_ROWS_TO = 16


@dataclass(frozen=True)
class Group:
    """Pairs of one batch that have, or are padded to, the same number of tokens."""

    #: The first row, the number of pairs, and the rows per pair.
    start: int
    pairs: int
    length: int
    #: Lengths of the pairs without padding, unless all are `length`.
    lengths: tuple[int, ...] | None

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.pairs * self.length)


@dataclass(frozen=True)
class Batch:
    """Concatenated pairs, in `rows` rows."""

    #: Per row: token id, position in the pair, and 0 (query) or 1 (document).
    ids: Ids
    positions: Ids
    types: Ids
    groups: tuple[Group, ...]

    @property
    def pairs(self) -> int:
        return sum(group.pairs for group in self.groups)


def group_by_length(lengths: Sequence[int], slack: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each group in `lengths`, which must be in descending order.

    A pair gets at most `slack` tokens of padding.
    """
    first = 0
    for place in range(1, len(lengths) + 1):
        if place == len(lengths) or lengths[first] - lengths[place] > slack:
            yield first, place
            first = place


def lay_out(pairs: Sequence[PairTokens], layout: PairLayout, slack: int = 0) -> Batch:
    """Return the batch of these pairs, which must be sorted with the longest first."""
    lengths = [pair.length for pair in pairs]
    groups = []
    room = np.empty(len(pairs), np.int32)  # rows per pair, including padding
    start = 0
    for first, end in group_by_length(lengths, slack):
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
    special = len(layout.before) + len(layout.between)
    query_rows = np.array([len(pair.query) + special for pair in pairs], np.int32)
    types[:start] = positions[:start] >= np.repeat(query_rows, room)
    return Batch(_ids(pairs, room, rows, layout), positions, types, tuple(groups))


def _ids(pairs: Sequence[PairTokens], room: Ids, rows: int, layout: PairLayout) -> Ids:
    """Return the tokens of each pair, padded where it has more room."""
    parts: list[Ids] = []
    filled = 0
    for pair, space in zip(pairs, room.tolist(), strict=True):
        parts += (layout.before, pair.query, layout.between, pair.document, layout.after)
        if pair.length < space:
            parts.append(layout.padding(space - pair.length))
        filled += space
    parts.append(layout.padding(rows - filled))
    return np.concatenate(parts)
