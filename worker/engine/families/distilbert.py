"""DistilBERT: BERT without token types and pooler, with other names."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DistilBertForSequenceClassification

from worker.engine.embeddings import Embeddings, places_by_position
from worker.engine.families.family import Family
from worker.engine.linear import Linear
from worker.engine.post_norm import Head, LayerParts, PostNormNetwork


def supports(model: DistilBertForSequenceClassification) -> bool:
    """Return whether the model has BERT's activation."""
    return bool(model.config.activation == "gelu")


def network(model: Any, linear: type[Linear]) -> PostNormNetwork:
    """Return the network of a model."""
    embeddings = model.distilbert.embeddings
    return PostNormNetwork(
        Embeddings(
            embeddings.word_embeddings,
            embeddings.position_embeddings.weight.detach(),
            embeddings.LayerNorm,
            places_by_position,
        ),
        [_parts(layer) for layer in model.distilbert.transformer.layer],
        model.config.n_heads,
        Head(model.pre_classifier, torch.relu, model.classifier),
        linear,
    )


def _parts(layer: Any) -> LayerParts:
    attention = layer.attention
    return LayerParts(
        query=attention.q_lin,
        key=attention.k_lin,
        value=attention.v_lin,
        attention_output=attention.out_lin,
        attention_norm=layer.sa_layer_norm,
        up=layer.ffn.lin1,
        down=layer.ffn.lin2,
        norm=layer.output_layer_norm,
    )


FAMILY = Family((DistilBertForSequenceClassification,), supports, network)
