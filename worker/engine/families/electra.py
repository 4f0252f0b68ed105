"""ELECTRA: BERT with smaller embeddings, and another head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import ElectraForSequenceClassification

from worker.engine.embeddings import with_types
from worker.engine.families.bert import layer_parts, supports
from worker.engine.families.family import Family
from worker.engine.layers import linear_of
from worker.engine.linear import Linear
from worker.engine.packing import Batch
from worker.engine.post_norm import Head, PostNormNetwork


def network(model: Any, linear: type[Linear]) -> PostNormNetwork:
    """Return the network of a model."""
    own = model.electra
    embeddings = own.embeddings
    embed: Callable[[Batch], Tensor] = with_types(
        embeddings.word_embeddings,
        embeddings.position_embeddings,
        embeddings.token_type_embeddings,
        embeddings.LayerNorm,
    )
    if own.config.embedding_size != own.config.hidden_size:
        embed = _projected(embed, own.embeddings_project, linear)
    return PostNormNetwork(
        embed,
        [layer_parts(layer) for layer in own.encoder.layer],
        model.config.num_attention_heads,
        Head(model.classifier.dense, functional.gelu, model.classifier.out_proj),
        linear,
    )


def _projected(
    embed: Callable[[Batch], Tensor], projection: nn.Linear, linear: type[Linear]
) -> Callable[[Batch], Tensor]:
    """Return embeddings that are projected to the width of the layers."""
    project = linear_of(projection, linear)
    return lambda batch: project(embed(batch))


FAMILY = Family((ElectraForSequenceClassification,), supports, network)
