"""Encoder layers like ModernBERT's: norms before each part, rotary positions, gates, and windows.

Most layers attend only to a window around each token. Letters in shapes are those of
`worker.engine.post_norm`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.attention import Attention
from worker.engine.layers import Norm, linear_of, to_device
from worker.engine.linear import Linear
from worker.engine.packing import Batch
from worker.engine.rotary import Rotary, Rotation

#: Returns the logits [N] of the pooled states [N, h] of pairs.
Head = Callable[[Tensor], Tensor]


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


class ClassifierHead:
    """The head of a sequence classifier: a dense layer with GELU, a norm, and one output."""

    def __init__(self, head: Any, classifier: nn.Linear, linear: type[Linear]) -> None:
        self._dense = linear_of(head.dense, linear)
        self._norm = Norm(head.norm)
        self._weights = classifier.weight.detach()[0].float()  # [h]
        self._bias = classifier.bias.detach().float()  # [1]

    def __call__(self, pooled: Tensor) -> Tensor:
        """Return the logits [N] of pooled states [N, h]."""
        states = self._norm(self._dense.gelu(pooled)).float()
        logits: Tensor = (states * self._weights).sum(-1) + self._bias
        return logits


class PreNormNetwork:
    """The network of a `ModernBertModel` and a head, with linear layers of kind `linear`.

    The head reads the mean of each pair's tokens if `means` is true, otherwise the first token.
    """

    def __init__(self, model: Any, head: Head, linear: type[Linear], *, means: bool) -> None:
        self._words = model.embeddings.tok_embeddings.weight.detach()
        self.device = self._words.device
        self._embedding_norm = Norm(model.embeddings.norm)
        self._means = means
        self._layers = [PreNormLayer(layer, linear) for layer in model.layers]
        self._type_names = [layer.attention_type for layer in model.layers]
        self._types = {
            layer.attention_type: LayerType(model.rotary_emb, layer.attention_type, _window(layer))
            for layer in model.layers
        }
        self._final_norm = Norm(model.final_norm)
        self._head = head

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits [N] of the batch's pairs in their order, in float32."""
        ids = to_device(batch.ids, self.device)  # [T]
        positions = to_device(batch.positions, self.device)
        x = self._embedding_norm(functional.embedding(ids, self._words))  # [T, h]
        attention = batch.attention(x)
        around = {
            name: each.surroundings(attention, positions) for name, each in self._types.items()
        }
        *layers, (last, last_type) = zip(self._layers, self._type_names, strict=True)
        for layer, name in layers:
            x = layer(x, around[name])
        if self._means:
            x = self._final_norm(last(x, around[last_type]))
            pooled = attention.means(x)  # [N', h]
        else:
            pooled = self._final_norm(last.first_tokens(x, around[last_type]))
        return self._head(pooled)[: batch.pairs].float()


def _window(layer: Any) -> int | None:
    """Return how many tokens to each side a layer's tokens attend to; None is all."""
    window = layer.attn.sliding_window
    return None if window is None else window - 1  # transformers adds 1 for flash-attn
