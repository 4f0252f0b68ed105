"""Encoder layers like ModernBERT's: norms before each part, rotary positions, gates, and windows.

Most layers attend only to a window around each token. Letters in shapes are those of
`worker.engine.post_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.layers import Norm, fill_up, linear_of, padding_mask, window_masks
from worker.engine.linear import Linear
from worker.engine.packing import Batch, Group
from worker.engine.rotary import Rotary, Rotation


@dataclass(frozen=True)
class Surroundings:
    """The masks and rotations that layers of one type apply to a batch."""

    groups: Sequence[Group]
    #: The mask of each group's attention scores.
    masks: Sequence[Tensor | None]
    rotation: Rotation


class LayerType:
    """A type of layers, which share the angles of positions and the window.

    A token attends to `window` tokens to each side; None is all.
    """

    def __init__(self, rotary: nn.Module, name: str, window: int | None) -> None:
        self._rotary = Rotary(rotary, name)
        self._window = window

    def surroundings(self, batch: Batch, positions: Tensor, like: Tensor) -> Surroundings:
        """Return what the layers need to know about a batch; masks have the type of `like`."""
        masks = [padding_mask(group, like) for group in batch.groups]
        if self._window is not None:
            masks = window_masks(batch.groups, self._window, masks, like)
        return Surroundings(batch.groups, masks, self._rotary.rotation(positions))


class PreNormLayer:
    """One encoder layer, for all tokens or for the first token of each pair."""

    def __init__(self, layer: Any, linear: type[Linear]) -> None:
        attention = layer.attn
        self._head_size: int = attention.head_dim
        is_first = isinstance(layer.attn_norm, nn.Identity)
        self._attention_norm = None if is_first else Norm(layer.attn_norm)
        self._qkv = linear_of(attention.Wqkv, linear)
        self._output = linear_of(attention.Wo, linear)
        self._mlp_norm = Norm(layer.mlp_norm)
        self._up = linear_of(layer.mlp.Wi, linear)
        self._down = linear_of(layer.mlp.Wo, linear)

    def __call__(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return the layer's output [T, h] for all tokens."""
        q, k, v = self._project(x, around.rotation)
        context = torch.zeros_like(x)  # rows outside all groups must not hold NaN
        for group, mask in zip(around.groups, around.masks, strict=True):
            context[group.rows] = _attend(group, q[group.rows], k, v, mask)
        return self._feed_forward(self._output.add(context, x))

    def first_tokens(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return the layer's output [N', h] for the first token of each pair."""
        q, k, v = self._project(x, around.rotation)
        first = [slice(each.rows.start, each.rows.stop, each.length) for each in around.groups]
        contexts = [
            _attend(group, q[rows], k, v, None if mask is None else mask[:, :, :1])
            for group, rows, mask in zip(around.groups, first, around.masks, strict=True)
        ]
        cls = fill_up([x[rows] for rows in first])
        return self._feed_forward(self._output.add(fill_up(contexts), cls))

    def _project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and keys, rotated, and values, each [T, H, d]."""
        normed = x if self._attention_norm is None else self._attention_norm(x)
        qkv = self._qkv(normed).view(len(x), -1, self._head_size)  # [T, 3H, d]
        heads = qkv.shape[1] // 3
        q, k = rotation(qkv[:, : 2 * heads]).chunk(2, dim=1)
        return q, k, qkv[:, 2 * heads :]

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
