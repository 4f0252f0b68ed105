"""Encoder layers like ModernBERT's: norms before each part, rotary positions, gates, and windows.

Most layers attend only to a window around each token. Letters in shapes are those of
`worker.engine.post_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.layers import Norm, fill_up, linear_of, window_mask
from worker.engine.linear import Linear
from worker.engine.packing import Group
from worker.engine.rotary import Rotary

Masks = Sequence[Tensor | None]


class PreNormLayer:
    """One encoder layer, for all tokens or for the first token of each pair."""

    def __init__(self, layer: Any, rotary: nn.Module, linear: type[Linear]) -> None:
        attention = layer.attn
        self._head_size: int = attention.head_dim
        self._rotary = Rotary(rotary, layer.attention_type)
        #: The number of tokens to each side that a token attends to; None is all.
        self._window: int | None = None
        if attention.sliding_window is not None:
            self._window = attention.sliding_window - 1
        is_first = isinstance(layer.attn_norm, nn.Identity)
        self._attention_norm = None if is_first else Norm(layer.attn_norm)
        self._qkv = linear_of(attention.Wqkv, linear)
        self._output = linear_of(attention.Wo, linear)
        self._mlp_norm = Norm(layer.mlp_norm)
        self._up = linear_of(layer.mlp.Wi, linear)
        self._down = linear_of(layer.mlp.Wo, linear)

    def masks(
        self,
        windows: dict[int, list[Tensor | None]],
        padding: list[Tensor | None],
        groups: Sequence[Group],
        like: Tensor,
    ) -> Masks:
        """Return the mask of each group; `windows` keeps them for the other layers."""
        if self._window is None:
            return padding
        if self._window not in windows:
            window = self._window
            windows[window] = [
                window_mask(group, window, mask, like)
                for group, mask in zip(groups, padding, strict=True)
            ]
        return windows[self._window]

    def __call__(
        self, x: Tensor, positions: Tensor, groups: Sequence[Group], masks: Masks
    ) -> Tensor:
        """Return the layer's output [T, h] for all tokens."""
        q, k, v = self._project(x, positions)
        context = torch.zeros_like(x)  # rows outside all groups must not hold NaN
        for group, mask in zip(groups, masks, strict=True):
            context[group.rows] = _attend(group, q[group.rows], k, v, mask)
        return self._feed_forward(self._output.add(context, x))

    def first_tokens(
        self, x: Tensor, positions: Tensor, groups: Sequence[Group], masks: Masks
    ) -> Tensor:
        """Return the layer's output [N', h] for the first token of each pair."""
        q, k, v = self._project(x, positions)
        first = [slice(group.rows.start, group.rows.stop, group.length) for group in groups]
        contexts = [
            _attend(group, q[rows], k, v, None if mask is None else mask[:, :, :1])
            for group, rows, mask in zip(groups, first, masks, strict=True)
        ]
        cls = fill_up([x[rows] for rows in first])
        return self._feed_forward(self._output.add(fill_up(contexts), cls))

    def _project(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and keys, rotated, and values, each [T, H, d]."""
        normed = x if self._attention_norm is None else self._attention_norm(x)
        q, k, v = self._qkv(normed).view(len(x), 3, -1, self._head_size).unbind(1)
        return self._rotary(q, positions), self._rotary(k, positions), v

    def _feed_forward(self, x: Tensor) -> Tensor:
        value, gate = self._up(self._mlp_norm(x)).chunk(2, dim=-1)
        return self._down.add(functional.gelu(value) * gate, x)


def _attend(group: Group, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return what queries [n x l, H, d] of a group see of its keys and values: [n x l, h]."""
    q, k, v = (
        each.view(group.pairs, -1, *each.shape[1:]).transpose(1, 2)  # [n, H, l or L, d]
        for each in (q, k[group.rows], v[group.rows])
    )
    seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return seen.transpose(1, 2).flatten(0, 1).flatten(1)
