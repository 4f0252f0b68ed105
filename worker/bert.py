"""BERT for sequence classification, written for scoring: the same logits with less work.

What is left out or done otherwise than in the textbook, and changes nothing but rounding:

- No padding: a batch's pairs are laid end to end in one row of tokens (see `worker.batches`).
- Query, key and value of a token are one product; GELU and residual are done inside products.
- Only [CLS] is read at the end, so the last layer is computed for [CLS] only: its attention needs
  all tokens of a pair, but no query, output or feed-forward of theirs. Nor does it need their keys
  and values: with k = K x, q.k is (Kt q).x, and with v = V x the weighted sum of the v is V times
  the weighted sum of the x. So K and V are applied once a pair instead of once a token. (The key's
  bias adds the same to all of a pair's attention scores, which the softmax ignores.)

A pair's logit is the same to the last bit whatever else is in its batch (in float32 on a CPU, with
a hidden size that is a multiple of 4, as any trained BERT's is): no product's number of rows is one
for which a library takes another kernel, which would add up the same numbers in another order. So a
job that is scored again, in other batches, gives the same.

Letters in shapes: T rows (tokens) of a batch, n pairs of a group, L tokens of each of them, N pairs
of a batch (N' with what fills them up), h hidden size, H heads, d = h / H, i intermediate size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertForSequenceClassification

from worker.batches import Batch, Group
from worker.linear import Linear

#: The last layer's rows are filled up to a multiple of this: for fewer than four, and in the
#: classifier's product for odd numbers of them, MKL takes other kernels.
ROUND_PAIRS_TO = 8


def supports(encoder: CrossEncoder) -> bool:
    """Whether `Bert` computes what this model does: a plain BERT with one score a pair."""
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
    """The network of a `BertForSequenceClassification`, its linear layers of kind `linear`."""

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
        self._layers = [_Layer(layer, heads, linear) for layer in layers]
        self._last = _LastLayer(last, heads)
        pooler: Any = model.bert.pooler
        self._pooler = _plain(pooler.dense)
        self._classifier = _plain(model.classifier)

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Logits [N] of the batch's pairs, float32 on the CPU, in the batch's order."""
        ids = torch.from_numpy(batch.ids).to(self.device)  # [T]
        places = torch.from_numpy(batch.positions + batch.types * self.positions).to(self.device)
        x = functional.embedding(ids, self._words) + functional.embedding(places, self._places)
        x = self._norm(x)  # [T, h]
        masks = [_mask(group, x) for group in batch.groups]
        for layer in self._layers:
            x = layer(x, batch.groups, masks)
        cls = self._last(x, batch.groups, masks)  # [N', h]
        pooled = torch.tanh(self._pooler(cls))
        logits: Tensor = self._classifier(pooled)  # [N', 1]
        return logits[: batch.pairs, 0].float().cpu()


class _Norm:
    """LayerNorm over [.., h]."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight, self._bias = norm.weight.detach(), norm.bias.detach()
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


class _Layer:
    """A layer of the encoder, for all tokens."""

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
        # Zeros in the rows that no group has: what they hold is never read, but must be a number.
        context = qkv.new_zeros(rows, width // 3)
        for group, mask in zip(groups, masks, strict=True):
            shape = (group.pairs, group.length, 3, self._heads, -1)
            q, k, v = qkv[group.rows].view(shape).permute(2, 0, 3, 1, 4)  # each [n, H, L, d]
            seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            into = context[group.rows].view(group.pairs, group.length, self._heads, -1)
            into.copy_(seen.transpose(1, 2))
        return context


class _LastLayer:
    """The last layer, for [CLS] only. Small: in torch's own linear layers."""

    def __init__(self, layer: Any, heads: int) -> None:
        attention = layer.attention
        own = attention.self
        hidden = own.query.in_features
        by_head = (heads, hidden // heads, hidden)
        self._heads = heads
        self._scale = (hidden // heads) ** -0.5
        self._query = _plain(own.query)
        self._key = own.key.weight.detach().view(by_head).clone()  # [H, d, h]
        self._value = own.value.weight.detach().view(by_head).transpose(1, 2).clone()  # [H, h, d]
        self._value_bias: Tensor = own.value.bias.detach().clone()  # [h]
        self._output = _plain(attention.output.dense)
        self._norm = _Norm(attention.output.LayerNorm)
        self._up = _plain(layer.intermediate.dense)
        self._down = _plain(layer.output.dense)
        self._end_norm = _Norm(layer.output.LayerNorm)

    def __call__(
        self, x: Tensor, groups: Sequence[Group], masks: Sequence[Tensor | None]
    ) -> Tensor:
        cls = _rounded([x[group.rows][:: group.length] for group in groups])  # [N', h]
        context = self._attend(cls, x, groups, masks)
        cls = self._norm(self._output.add(context, cls))
        return self._end_norm(self._down.add(self._up.gelu(cls), cls))

    def _attend(
        self, cls: Tensor, x: Tensor, groups: Sequence[Group], masks: Sequence[Tensor | None]
    ) -> Tensor:
        pairs, hidden = cls.shape
        q = self._query(cls).view(pairs, self._heads, -1) * self._scale  # [N', H, d]
        q = torch.bmm(q.transpose(0, 1), self._key).transpose(0, 1)  # Kt q: [N', H, h]
        sums = torch.zeros_like(q)  # of the x, weighted: [N', H, h]
        first = 0
        for group, mask in zip(groups, masks, strict=True):
            own = slice(first, first + group.pairs)
            states = x[group.rows].view(group.pairs, group.length, hidden)  # [n, L, h]
            scores = torch.bmm(q[own], states.transpose(1, 2))  # [n, H, L]
            if mask is not None:
                scores += mask[:, 0]
            sums[own] = torch.bmm(scores.softmax(-1), states)
            first = own.stop
        values = torch.bmm(sums.transpose(0, 1), self._value)  # V of each sum: [H, N', d]
        context: Tensor = values.transpose(0, 1).reshape(pairs, hidden)
        return context + self._value_bias


def _mask(group: Group, like: Tensor) -> Tensor | None:
    """What to add to attention scores so that padding is not seen: [n, 1, 1, L]."""
    if group.lengths is None:
        return None
    lengths = torch.tensor(group.lengths, device=like.device)
    hidden = torch.arange(group.length, device=like.device) >= lengths[:, None]  # [n, L]
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(hidden, -torch.inf)[:, None, None]


def _rounded(parts: Sequence[Tensor]) -> Tensor:
    """The parts in one, with rows of zeros up to the next full number."""
    rows = sum(map(len, parts))
    return torch.cat([*parts, parts[0].new_zeros(-rows % ROUND_PAIRS_TO, parts[0].shape[1])])


def _plain(layer: nn.Linear) -> Linear:
    return _linear(layer, Linear)


def _linear(layer: nn.Linear, kind: type[Linear]) -> Linear:
    return kind(layer.weight.detach(), layer.bias.detach())
