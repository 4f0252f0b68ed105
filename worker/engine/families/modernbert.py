"""ModernBERT: `ModernBertForSequenceClassification`, as gte-reranker-modernbert has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import ModernBertForSequenceClassification

from worker.engine.families.family import Family
from worker.engine.layers import Norm, linear_of, to_device
from worker.engine.linear import Linear
from worker.engine.packing import Batch
from worker.engine.pre_norm import LayerType, PreNormLayer

#: Returns the logits [N] of the pooled states [N, h] of pairs.
Head = Callable[[Tensor], Tensor]


def supports(model: ModernBertForSequenceClassification) -> bool:
    """Return whether the model's activations, positions and pooling are known."""
    config: Any = model.config
    return bool(
        supports_layers(model)
        and config.classifier_activation == "gelu"
        and config.classifier_pooling in ("cls", "mean")
    )


def supports_layers(model: Any) -> bool:
    """Return whether the activation and the positions of the layers are known."""
    positions = (each for each in model.config.rope_parameters.values() if each)
    return bool(
        model.config.hidden_activation == "gelu"
        and all(each["rope_type"] == "default" for each in positions)
    )


def network(model: Any, linear: type[Linear]) -> ModernBert:
    """Return the network of a sequence classifier."""
    dense, norm = linear_of(model.head.dense, linear), Norm(model.head.norm)
    weights = model.classifier.weight.detach()[0].float()  # [h]
    bias = model.classifier.bias.detach().float()  # [1]

    def head(pooled: Tensor) -> Tensor:
        logits: Tensor = (norm(dense.gelu(pooled)).float() * weights).sum(-1) + bias
        return logits

    means = model.config.classifier_pooling == "mean"
    return ModernBert(model.model, head, linear, means=means)


class ModernBert:
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


FAMILY = Family((ModernBertForSequenceClassification,), supports, network)
