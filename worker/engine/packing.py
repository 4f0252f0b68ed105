"""The memory layout of a batch on a CPU: concatenated pairs, without padding.

A batch is one long row of tokens. Nearly all of a transformer's work is done per token and runs
over that row. Only attention depends on where a pair ends, so it handles pairs in groups of the
same length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from worker.engine.attention import Attention, Group, GroupedAttention
from worker.engine.pair_layout import PairLayout, PairTokens

Ids = npt.NDArray[np.int32]

#: The rows of a batch are rounded up to this. For each new number of rows, oneDNN prepares kernels,
#: which takes as long as a few hundred rows of a small model.
ROUND_ROWS_TO = 16


class Batch(Protocol):
    """Concatenated pairs, as a network reads them, whatever their layout."""

    @property
    def ids(self) -> Ids:
        """The token id of each row."""
        ...

    @property
    def positions(self) -> Ids:
        """The position of each row in its pair."""
        ...

    @property
    def types(self) -> Ids:
        """For each row, 0 (query) or 1 (document)."""
        ...

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        ...

    def attention(self, like: Tensor) -> Attention:
        """Return the attention within the pairs, for tensors of the type and device of `like`."""
        ...


@dataclass(frozen=True)
class GroupedBatch:
    """Concatenated pairs in groups of equal length; see `Batch`."""

    ids: Ids
    positions: Ids
    types: Ids
    groups: tuple[Group, ...]

    @property
    def pairs(self) -> int:
        return sum(group.pairs for group in self.groups)

    def attention(self, like: Tensor) -> Attention:
        """Return the attention within the pairs of each group."""
        return GroupedAttention(self.groups, like)


def group_by_length(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each group of equal, adjacent `lengths`."""
    first = 0
    for place in range(1, len(lengths) + 1):
        if place == len(lengths) or lengths[place] != lengths[first]:
            yield first, place
            first = place


def lay_out(pairs: Sequence[PairTokens], layout: PairLayout) -> GroupedBatch:
    """Return the batch of these pairs, which must be sorted with the longest first."""
    lengths = [pair.length for pair in pairs]
    groups = []
    start = 0
    for first, end in group_by_length(lengths):
        groups.append(Group(start, end - first, lengths[first]))
        start += (end - first) * lengths[first]
    rows = -(-start // ROUND_ROWS_TO) * ROUND_ROWS_TO
    room = np.array(lengths, np.int32)
    begins = np.cumsum(room) - room
    positions = np.zeros(rows, np.int32)
    positions[:start] = np.arange(start, dtype=np.int32) - np.repeat(begins, room)
    types = np.zeros(rows, np.int32)
    special = len(layout.before) + len(layout.between)
    query_rows = np.array([len(pair.query) + special for pair in pairs], np.int32)
    types[:start] = positions[:start] >= np.repeat(query_rows, room)
    parts = chain.from_iterable(
        (layout.before, pair.query, layout.between, pair.document, layout.after) for pair in pairs
    )
    ids = np.concatenate([*parts, layout.padding(rows - start)])
    return GroupedBatch(ids, positions, types, tuple(groups))
