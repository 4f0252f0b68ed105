"""ELECTRA: BERT with smaller embeddings, and another head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import ElectraForSequenceClassification

from worker.engine.embeddings import ProjectedEmbeddings, with_types
from worker.engine.families.bert import layer_parts, supports
from worker.engine.families.family import Family
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
        embed = ProjectedEmbeddings(embed, own.embeddings_project, linear)
    return PostNormNetwork(
        embed,
        [layer_parts(layer) for layer in own.encoder.layer],
        model.config.num_attention_heads,
        Head(model.classifier.dense, functional.gelu, model.classifier.out_proj),
        linear,
    )


FAMILY = Family((ElectraForSequenceClassification,), supports, network)
