"""The memory layout of a batch on a GPU: concatenated pairs, and where each of them begins.

One call of a function for attention of variable length handles all pairs of a batch, so pairs need
neither padding nor groups. Letters in shapes are those of `worker.engine.post_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.attention import Attention
from worker.engine.layers import to_device
from worker.engine.packing import Ids
from worker.engine.pair_columns import PairColumns
from worker.engine.pair_layout import PairLayout


@dataclass(frozen=True)
class Sequences:
    """Adjacent sequences of rows, one for each pair."""

    #: The first row of each sequence, and the end of the last: int32 [N + 1], on the GPU.
    starts: Tensor
    longest: int
    #: The number of rows of each sequence, on the host.
    lengths: Ids
    #: How ranges of them are padded, for a function that has to.
    paddings: dict[tuple[int, int], Any] = field(default_factory=dict)


class VarlenFunction(Protocol):
    """A function for attention in sequences of different lengths."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        of_q: Sequences,
        of_k: Sequences,
        window: int | None,
    ) -> Tensor:
        """Return the context [rows of q, H, d] of queries in the sequences `of_q`.

        The queries of a sequence attend to the keys and values of the same sequence in `of_k`, or
        only to `window` of them on each side.
        """
        ...


class VarlenAttention:
    """Attention by one call for all pairs of a batch; see `Attention`."""

    def __init__(
        self, function: VarlenFunction, sequences: Sequences, window: int | None = None
    ) -> None:
        self._function = function
        self._sequences = sequences
        self._window = window

    def within(self, window: int) -> Self:
        """Return attention of each token to `window` tokens on each side only."""
        return type(self)(self._function, self._sequences, window)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the context [T, h] of all tokens."""
        own = self._sequences
        return self._function(q, k, v, own, own, self._window).flatten(1)

    def first_tokens(self, x: Tensor) -> Tensor:
        """Return the rows [N, h] of the first token of each pair."""
        return x.index_select(0, self._sequences.starts[:-1])

    def of_first_tokens(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the context [N, h] of the first token of each pair."""
        if self._window is None:
            return self._of_one_query(self.first_tokens(q), k, v).flatten(1)
        # These functions align a single query with the last key, so a window would be the last one.
        return self.first_tokens(self(q, k, v))

    def to_states(self, q: Tensor, key: Tensor, value: Tensor, x: Tensor) -> Tensor:
        """Return the context [N, H, d] of queries [N, H, d], one for each pair, to its states x."""
        shape = (len(x), *q.shape[1:])
        k = functional.linear(x, key.flatten(0, 1)).view(shape)
        v = functional.linear(x, value.transpose(1, 2).flatten(0, 1)).view(shape)
        return self._of_one_query(q, k, v)

    def means(self, x: Tensor) -> Tensor:
        """Return the mean row [N, h] of each pair."""
        starts = self._sequences.starts
        lengths = starts.diff()
        pairs = torch.arange(len(lengths), device=x.device)
        # Without the size of the output, the host would wait for the GPU to compute it.
        pair_of_row = pairs.repeat_interleave(lengths, output_size=len(x))
        sums = x.new_zeros(len(lengths), x.shape[1], dtype=torch.float32)
        sums.index_add_(0, pair_of_row, x.float())
        return (sums / lengths[:, None]).to(x.dtype)

    def _of_one_query(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pairs = len(q)
        each = torch.arange(pairs + 1, dtype=torch.int32, device=q.device)
        single = Sequences(each, 1, np.ones(pairs, np.int32))
        return self._function(q, k, v, single, self._sequences, None)


@dataclass(frozen=True)
class VarlenBatch:
    """Concatenated pairs of any lengths, without padding; see `worker.engine.packing.Batch`."""

    ids: Ids
    positions: Ids
    types: Ids
    #: The first row of each pair, and the end of the last.
    starts: Ids
    #: The function for attention.
    function: VarlenFunction

    @property
    def pairs(self) -> int:
        return len(self.starts) - 1

    def attention(self, like: Tensor) -> Attention:
        """Return the attention within the pairs, for tensors on the device of `like`."""
        lengths = np.diff(self.starts)
        sequences = Sequences(to_device(self.starts, like.device), int(lengths.max()), lengths)
        return VarlenAttention(self.function, sequences)


def lay_out(
    pairs: PairColumns, places: Sequence[int], layout: PairLayout, function: VarlenFunction
) -> VarlenBatch:
    """Return the batch of the pairs at these places (at least one)."""
    at = np.asarray(places)
    lengths = pairs.lengths[at]
    starts = np.zeros(len(at) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    positions = np.arange(starts[-1], dtype=np.int32) - np.repeat(starts[:-1], lengths)
    special = len(layout.before) + len(layout.between)
    types = positions >= np.repeat(pairs.query_lengths[at] + special, lengths)
    ids = _ids(pairs, places, layout)
    return VarlenBatch(ids, positions, types.astype(np.int32), starts, function)


def _ids(pairs: PairColumns, places: Sequence[int], layout: PairLayout) -> Ids:
    """Return the ids of all rows; joining bytes takes a fifth of the time of joining arrays."""
    before, between, after = (
        repeat(part.tobytes()) for part in (layout.before, layout.between, layout.after)
    )
    chosen = itemgetter(*places) if len(places) > 1 else lambda texts: (texts[places[0]],)
    # The special tokens repeat without end.
    texts = zip(
        before, chosen(pairs.queries), between, chosen(pairs.documents), after, strict=False
    )
    return np.frombuffer(bytearray().join(chain.from_iterable(texts)), np.int32)
