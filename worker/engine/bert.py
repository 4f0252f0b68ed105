"""BERT for sequence classification, optimised for scoring: the same logits with less work.

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
- n, L: pairs of a group, and tokens of each of its pairs
- h, i: hidden and intermediate size
- H, d: attention heads, and h / H
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertForSequenceClassification

from worker.engine.linear import Linear
from worker.engine.packing import Batch, Group

#: The rows of the last layer, one per pair, are filled up to a multiple of this. Its products per
#: head are computed for this many rows at a time, because MKL's order of summation depends on the
#: number of rows.
PAIRS_AT_ONCE = 16


def supports(encoder: CrossEncoder) -> bool:
    """Return whether `Bert` can compute this model: a plain BERT with one score per pair."""
    model, tokenizer = encoder.model, encoder.tokenizer
    if type(model) is not BertForSequenceClassification or len(encoder) != 1:
        return False
    if not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return False
    config = model.config
    return bool(
        config.num_labels == 1
        and config.hidden_act == "gelu"
        and config.type_vocab_size == 2
        and not config.is_decoder
        and encoder.default_prompt_name is None
    )


class Bert:
    """The network of a `BertForSequenceClassification`, with linear layers of kind `linear`."""

    def __init__(self, model: BertForSequenceClassification, linear: type[Linear]) -> None:
        embeddings = model.bert.embeddings
        self.hidden = model.config.hidden_size
        self.positions = model.config.max_position_embeddings
        self.device = model.device
        self._words = embeddings.word_embeddings.weight.detach()  # [vocabulary, h]
        types = embeddings.token_type_embeddings.weight.detach()  # [2, h]
        places = embeddings.position_embeddings.weight.detach()  # [positions, h]
        self._places = (types[:, None] + places).view(-1, self.hidden)  # [2 x positions, h]
        self._norm = _Norm(embeddings.LayerNorm)
        *layers, last = model.bert.encoder.layer
        heads = model.config.num_attention_heads
        exact = linear if linear.exact else Linear
        self._layers = [_Layer(layer, heads, linear) for layer in layers]
        self._last = _LastLayer(last, heads, exact)
        pooler: Any = model.bert.pooler
        self._pooler = _linear(pooler.dense, exact)
        self._classifier = model.classifier.weight.detach()[0].float()  # [h]
        self._classifier_bias = model.classifier.bias.detach().float()  # [1]

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits [N] of the batch's pairs in their order, float32 on the CPU."""
        ids = torch.from_numpy(batch.ids).to(self.device)  # [T]
        places = torch.from_numpy(batch.positions + batch.types * self.positions).to(self.device)
        x = functional.embedding(ids, self._words) + functional.embedding(places, self._places)
        x = self._norm(x)  # [T, h]
        masks = [_mask(group, x) for group in batch.groups]
        for layer in self._layers:
            x = layer(x, batch.groups, masks)
        cls = self._last(x, batch.groups, masks)  # [N', h]
        pooled = torch.tanh(self._pooler(cls)).float()  # [N', h]
        logits: torch.Tensor = (pooled * self._classifier).sum(-1) + self._classifier_bias  # [N']
        return logits[: batch.pairs].cpu()


class _Norm:
    """LayerNorm over [.., h]."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight, self._bias = norm.weight.detach(), norm.bias.detach()
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


class _Layer:
    """One encoder layer, computed for all tokens."""

    def __init__(self, layer: Any, heads: int, linear: type[Linear]) -> None:
        attention = layer.attention
        own = attention.self
        self._heads = heads
        self._qkv = linear(
            torch.cat([own.query.weight, own.key.weight, own.value.weight]).detach(),  # [3h, h]
            torch.cat([own.query.bias, own.key.bias, own.value.bias]).detach(),
        )
        self._output = _linear(attention.output.dense, linear)
        self._norm = _Norm(attention.output.LayerNorm)
        self._up = _linear(layer.intermediate.dense, linear)
        self._down = _linear(layer.output.dense, linear)
        self._end_norm = _Norm(layer.output.LayerNorm)

    def __call__(
        self, x: Tensor, groups: Sequence[Group], masks: Sequence[Tensor | None]
    ) -> Tensor:
        context = self._attend(self._qkv(x), groups, masks)  # [T, h]
        x = self._norm(self._output.add(context, x))
        return self._end_norm(self._down.add(self._up.gelu(x), x))

    def _attend(
        self, qkv: Tensor, groups: Sequence[Group], masks: Sequence[Tensor | None]
    ) -> Tensor:
        rows, width = qkv.shape
        # Rows outside all groups are zero: they are never read, but must not hold NaN.
        context = qkv.new_zeros(rows, width // 3)
        for group, mask in zip(groups, masks, strict=True):
            shape = (group.pairs, group.length, 3, self._heads, -1)
            q, k, v = qkv[group.rows].view(shape).permute(2, 0, 3, 1, 4)  # each [n, H, L, d]
            seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            into = context[group.rows].view(group.pairs, group.length, self._heads, -1)
            into.copy_(seen.transpose(1, 2))
        return context


class _LastLayer:
    """The last layer, computed for [CLS] only. int8 would gain too little here, so it is exact."""

    def __init__(self, layer: Any, heads: int, linear: type[Linear]) -> None:
        attention = layer.attention
        own = attention.self
        hidden = own.query.in_features
        by_head = (heads, hidden // heads, hidden)
        self._heads = heads
        self._scale = (hidden // heads) ** -0.5
        self._query = _linear(own.query, linear)
        self._key = own.key.weight.detach().view(by_head).clone()  # [H, d, h]
        self._value = own.value.weight.detach().view(by_head).transpose(1, 2).clone()  # [H, h, d]
        self._value_bias: Tensor = own.value.bias.detach().clone()  # [h]
        self._output = _linear(attention.output.dense, linear)
        self._norm = _Norm(attention.output.LayerNorm)
        self._up = _linear(layer.intermediate.dense, linear)
        self._down = _linear(layer.output.dense, linear)
        self._end_norm = _Norm(layer.output.LayerNorm)

    def __call__(
        self, x: Tensor, groups: Sequence[Group], masks: Sequence[Tensor | None]
    ) -> Tensor:
        cls = _fill_up([x[group.rows][:: group.length] for group in groups])  # [N', h]
        context = self._attend(cls, x, groups, masks)
        cls = self._norm(self._output.add(context, cls))
        return self._end_norm(self._down.add(self._up.gelu(cls), cls))

    def _attend(
        self, cls: Tensor, x: Tensor, groups: Sequence[Group], masks: Sequence[Tensor | None]
    ) -> Tensor:
        pairs, hidden = cls.shape
        q = self._query(cls).view(pairs, self._heads, -1) * self._scale  # [N', H, d]
        q = _by_head(q, self._key)  # Kt q: [N', H, h]
        sums = torch.zeros_like(q)  # weighted sums of x: [N', H, h]
        first = 0
        for group, mask in zip(groups, masks, strict=True):
            own = slice(first, first + group.pairs)
            states = x[group.rows].view(group.pairs, group.length, hidden)  # [n, L, h]
            scores = torch.bmm(q[own], states.transpose(1, 2))  # [n, H, L]
            if mask is not None:
                scores += mask[:, 0]
            sums[own] = torch.bmm(scores.softmax(-1), states)
            first = own.stop
        values = _by_head(sums, self._value)  # V times each sum: [N', H, d]
        return values.reshape(pairs, hidden) + self._value_bias


def _mask(group: Group, like: Tensor) -> Tensor | None:
    """Return the term [n, 1, 1, L] that hides padding when added to attention scores."""
    if group.lengths is None:
        return None
    lengths = torch.tensor(group.lengths, device=like.device)
    hidden = torch.arange(group.length, device=like.device) >= lengths[:, None]  # [n, L]
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(hidden, -torch.inf)[:, None, None]


def _fill_up(parts: Sequence[Tensor]) -> Tensor:
    """Return the concatenated parts, with rows of zeros up to a multiple of `PAIRS_AT_ONCE`."""
    rows = sum(map(len, parts))
    return torch.cat([*parts, parts[0].new_zeros(-rows % PAIRS_AT_ONCE, parts[0].shape[1])])


def _by_head(x: Tensor, weights: Tensor) -> Tensor:
    """Return x [N', H, in] times each head's weights [H, in, out], of shape [N', H, out]."""
    x = x.transpose(0, 1)  # [H, N', in]
    at_once = PAIRS_AT_ONCE if x.device.type == "cpu" else x.shape[1]
    parts = [torch.bmm(part, weights) for part in torch.split(x, at_once, dim=1)]
    return torch.cat(parts, dim=1).transpose(0, 1)


def _linear(layer: nn.Linear, kind: type[Linear]) -> Linear:
    return kind(layer.weight.detach(), layer.bias.detach())
