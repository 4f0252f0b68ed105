"""Encoders like BERT, optimized for scoring: the same logits with less work.

Differences from the textbook implementation, which only affect rounding:

- No padding: the pairs of a batch are concatenated into one row of tokens (see
  `worker.engine.packing`).
- Query, key and value are one product per token, and GELU and residual are fused into products.
- Only the output of [CLS] is used, so the last layer is computed for [CLS] only. Its attention
  reads all tokens of a pair, but needs no query, output or feed-forward of the other tokens.
- The last layer does not compute keys and values per token either. With k = K x, q.k is (Kt q).x.
  With v = V x, the weighted sum of the v is V times the weighted sum of the x. So K and V are
  applied once per pair instead of once per token. (The bias of the key adds the same number to all
  attention scores of a pair, which the softmax ignores.)

The logit of a pair is bitwise identical whatever else is in its batch, so a job that is scored
again in other batches gets the same scores. This holds in float32 on an x86 CPU with packed linear
layers (see `worker.engine.linear`) and a hidden size that is a multiple of 4, which every trained
BERT has.
Libraries choose kernels by the number of rows, and kernels differ in the order of summation. The
packed layers of oneDNN sum in the same order for every multiple of 16 rows, and MKL sums all rows
in the same order if there are exactly 16. Every product here has such a number of rows, or the
shape of a single pair.

Letters in shapes:

- T: rows (tokens) of a batch
- N: pairs of a batch (N' with the rows that fill it up)
- n, L: pairs of a group, and tokens of each of its pairs (l: those that attend)
- h, i: hidden and intermediate size
- H, d: attention heads, and h / H
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worker.engine.attention import Attention
from worker.engine.layers import Norm, linear_of
from worker.engine.linear import Linear
from worker.engine.packing import Batch


@dataclass(frozen=True)
class LayerParts:
    """The modules of one encoder layer, whatever a family calls them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    norm: nn.LayerNorm


@dataclass(frozen=True)
class Head:
    """The classification head: a dense layer with its activation, and one output."""

    dense: nn.Linear
    activation: Callable[[Tensor], Tensor]
    classifier: nn.Linear


class PostNormNetwork:
    """An encoder whose layers end with a norm, with linear layers of kind `linear`.

    `embed` returns the embeddings [T, h] of a batch.
    """

    def __init__(
        self,
        embed: Callable[[Batch], Tensor],
        layers: Sequence[LayerParts],
        heads: int,
        head: Head,
        linear: type[Linear],
    ) -> None:
        *others, last = layers
        self.device = last.up.weight.device
        self._embed = embed
        self._layers = [_Layer(layer, heads, linear) for layer in others]
        self._last = _LastLayer(last, heads, linear)
        self._dense = linear_of(head.dense, linear)
        self._activation = head.activation
        self._classifier = head.classifier.weight.detach()[0].float()  # [h]
        self._classifier_bias = head.classifier.bias.detach().float()  # [1]

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits [N] of the batch's pairs in their order, in float32."""
        x = self._embed(batch)  # [T, h]
        attention = batch.attention(x)
        for layer in self._layers:
            x = layer(x, attention)
        cls = self._last(x, attention)  # [N', h]
        pooled = self._activation(self._dense(cls)).float()  # [N', h]
        logits: torch.Tensor = (pooled * self._classifier).sum(-1) + self._classifier_bias  # [N']
        return logits[: batch.pairs]


class _Layer:
    """One encoder layer, computed for all tokens."""

    def __init__(self, layer: LayerParts, heads: int, linear: type[Linear]) -> None:
        qkv = (layer.query, layer.key, layer.value)
        self._heads = heads
        self._qkv = linear(
            torch.cat([each.weight for each in qkv]).detach(),  # [3h, h]
            torch.cat([each.bias for each in qkv]).detach(),
        )
        self._output = linear_of(layer.attention_output, linear)
        self._norm = Norm(layer.attention_norm)
        self._up = linear_of(layer.up, linear)
        self._down = linear_of(layer.down, linear)
        self._end_norm = Norm(layer.norm)

    def __call__(self, x: Tensor, attention: Attention) -> Tensor:
        q, k, v = self._qkv(x).view(len(x), 3, self._heads, -1).unbind(1)  # each [T, H, d]
        x = self._norm(self._output.add(attention(q, k, v), x))
        return self._end_norm(self._down.add(self._up.gelu(x), x))


class _LastLayer:
    """The last layer, computed for [CLS] only."""

    def __init__(self, layer: LayerParts, heads: int, linear: type[Linear]) -> None:
        hidden = layer.query.in_features
        by_head = (heads, hidden // heads, hidden)
        self._heads = heads
        self._query = linear_of(layer.query, linear)
        self._key = layer.key.weight.detach().view(by_head).clone()  # [H, d, h]
        self._value = layer.value.weight.detach().view(by_head).transpose(1, 2).clone()  # [H, h, d]
        self._value_bias: Tensor = layer.value.bias.detach().clone()  # [h]
        self._output = linear_of(layer.attention_output, linear)
        self._norm = Norm(layer.attention_norm)
        self._up = linear_of(layer.up, linear)
        self._down = linear_of(layer.down, linear)
        self._end_norm = Norm(layer.norm)

    def __call__(self, x: Tensor, attention: Attention) -> Tensor:
        cls = attention.first_tokens(x)  # [N', h]
        q = self._query(cls).view(len(cls), self._heads, -1)  # [N', H, d]
        values = attention.to_states(q, self._key, self._value, x)  # [N', H, d]
        context = values.reshape(cls.shape) + self._value_bias
        cls = self._norm(self._output.add(context, cls))
        return self._end_norm(self._down.add(self._up.gelu(cls), cls))
