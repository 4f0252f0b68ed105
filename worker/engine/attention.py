"""Attention: the part of a network that depends on the layout of a batch.

Everything else in a network is computed for each token, whatever pair it belongs to. Networks get
an `Attention` from a batch, and do not know how its rows are laid out. Letters in shapes are those
of `worker.engine.post_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

#: The rows of the last layer, one per pair, are filled up to a multiple of this. Its products per
#: head are computed for this many rows at a time, because MKL's order of summation depends on the
#: number of rows.
PAIRS_AT_ONCE = 16


class Attention(Protocol):
    """Attention within the pairs of one batch."""

    def within(self, window: int) -> Self:
        """Return attention of each token to `window` tokens on each side only."""
        ...

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the context [T, h] of all tokens, given q, k and v of [T, H, d]."""
        ...

    def first_tokens(self, x: Tensor) -> Tensor:
        """Return the rows [N', h] of the first token of each pair, given all rows [T, h]."""
        ...

    def of_first_tokens(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the context [N', h] of first tokens, given q, k and v of all: [T, H, d]."""
        ...

    def to_states(self, q: Tensor, key: Tensor, value: Tensor, x: Tensor) -> Tensor:
        """Return the context [N', H, d] of queries [N', H, d], one for each pair, to its states x.

        `key` [H, d, h] and `value` [H, h, d] are the weights of keys and values.
        """
        ...

    def means(self, x: Tensor) -> Tensor:
        """Return the mean row [N', h] of each pair, given all rows [T, h]."""
        ...


@dataclass(frozen=True)
class Group:
    """Adjacent pairs of a batch that have the same number of tokens."""

    #: The first row, the number of pairs, and the rows per pair.
    start: int
    pairs: int
    length: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.pairs * self.length)

    @property
    def first_rows(self) -> slice:
        """The rows of the first token of each pair."""
        return slice(self.start, self.start + self.pairs * self.length, self.length)


class GroupedAttention:
    """Attention in groups of pairs that have the same length, so that nothing is padded."""

    def __init__(self, groups: Sequence[Group], like: Tensor, window: int | None = None) -> None:
        self._groups = groups
        self._like = like
        self._masks = _window_masks(groups, window, like)

    def within(self, window: int) -> Self:
        """Return attention of each token to `window` tokens on each side only."""
        return type(self)(self._groups, self._like, window)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the context [T, h] of all tokens."""
        # Rows outside all groups are zero: they are never read, but must not hold NaN.
        context = q.new_zeros(len(q), q.shape[1] * q.shape[2])
        for group, mask in zip(self._groups, self._masks, strict=True):
            seen = _attend(group, q[group.rows], k, v, mask)
            context[group.rows].view(seen.shape).copy_(seen)
        return context

    def first_tokens(self, x: Tensor) -> Tensor:
        """Return the rows [N', h] of the first token of each pair."""
        return _fill_up([x[group.first_rows] for group in self._groups])

    def of_first_tokens(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the context [N', h] of the first token of each pair."""
        contexts = [
            _attend(group, q[group.first_rows], k, v, None if mask is None else mask[:, :, :1])
            for group, mask in zip(self._groups, self._masks, strict=True)
        ]
        return _fill_up([context.flatten(0, 1).flatten(1) for context in contexts])

    def to_states(self, q: Tensor, key: Tensor, value: Tensor, x: Tensor) -> Tensor:
        """Return the context [N', H, d] of one query per pair: see `worker.engine.post_norm`."""
        q = _by_head(q * q.shape[-1] ** -0.5, key)  # Kt q: [N', H, h]
        sums = torch.zeros_like(q)  # weighted sums of x: [N', H, h]
        first = 0
        for group in self._groups:
            own = slice(first, first + group.pairs)
            states = x[group.rows].view(group.pairs, group.length, -1)  # [n, L, h]
            scores = torch.bmm(q[own], states.transpose(1, 2))  # [n, H, L]
            sums[own] = torch.bmm(scores.softmax(-1), states)
            first = own.stop
        return _by_head(sums, value)  # V times each sum

    def means(self, x: Tensor) -> Tensor:
        """Return the mean row [N', h] of each pair."""
        states = (x[each.rows].view(each.pairs, each.length, -1) for each in self._groups)
        return _fill_up([each.mean(1) for each in states])


def _attend(group: Group, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return what queries [n x l, H, d] of a group see of its keys and values: [n, l, H, d]."""
    q, k, v = (
        each.view(group.pairs, -1, *each.shape[1:]).transpose(1, 2)  # [n, H, l or L, d]
        for each in (q, k[group.rows], v[group.rows])
    )
    seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return seen.transpose(1, 2)


def _window_masks(groups: Sequence[Group], window: int | None, like: Tensor) -> list[Tensor | None]:
    """Return the mask [1, 1, L, L] of each group, or None if it fits into the window."""
    if window is None:
        return [None] * len(groups)
    longest = max(group.length for group in groups)
    places = torch.arange(longest, device=like.device)
    far = (places[:, None] - places).abs() > window  # [L, L]
    mask = torch.zeros(far.shape, dtype=like.dtype, device=like.device)
    mask = mask.masked_fill_(far, -torch.inf)[None, None]
    return [
        mask[..., : group.length, : group.length] if group.length > window + 1 else None
        for group in groups
    ]


def _fill_up(parts: Sequence[Tensor]) -> Tensor:
    """Return the concatenated parts, with rows of zeros up to a multiple of `PAIRS_AT_ONCE`."""
    rows = sum(map(len, parts))
    return torch.cat([*parts, parts[0].new_zeros(-rows % PAIRS_AT_ONCE, parts[0].shape[1])])


def _by_head(x: Tensor, weights: Tensor) -> Tensor:
    """Return x [N', H, in] times each head's weights [H, in, out], of shape [N', H, out]."""
    x = x.transpose(0, 1)  # [H, N', in]
    parts = [torch.bmm(part, weights) for part in torch.split(x, PAIRS_AT_ONCE, dim=1)]
    return torch.cat(parts, dim=1).transpose(0, 1)
