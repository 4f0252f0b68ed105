"""Encoder layers like ModernBERT's: norms before each part, rotary positions, gates, and windows.

Most layers attend only to a window around each token. Letters in shapes are those of
`worker.engine.post_norm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from worker.engine.attention import Attention
from worker.engine.layers import Norm, linear_of
from worker.engine.linear import Linear
from worker.engine.rotary import Rotary, Rotation


@dataclass(frozen=True)
class Surroundings:
    """The attention and rotations that layers of one type apply to a batch."""

    attention: Attention
    rotation: Rotation


class LayerType:
    """A type of layers, which share the angles of positions and the window.

    A token attends to `window` tokens to each side; None is all.
    """

    def __init__(self, rotary: nn.Module, name: str, window: int | None) -> None:
        self._rotary = Rotary(rotary, name)
        self._window = window

    def surroundings(self, attention: Attention, positions: Tensor) -> Surroundings:
        """Return what the layers need to know about a batch, given its attention to all tokens."""
        if self._window is not None:
            attention = attention.within(self._window)
        return Surroundings(attention, self._rotary.rotation(positions))


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
        return self._feed_forward(self._output.add(around.attention(q, k, v), x))

    def first_tokens(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return the layer's output [N', h] for the first token of each pair."""
        context = around.attention.of_first_tokens(*self._project(x, around.rotation))
        return self._feed_forward(self._output.add(context, around.attention.first_tokens(x)))

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
