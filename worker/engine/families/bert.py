"""BERT: `BertForSequenceClassification`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertForSequenceClassification

from worker.engine.embeddings import with_types
from worker.engine.families.family import Family
from worker.engine.linear import Linear
from worker.engine.post_norm import Head, LayerParts, PostNormNetwork


def supports(model: BertForSequenceClassification) -> bool:
    """Return whether the model has the activation, types and attention of BERT."""
    config = model.config
    return bool(
        config.hidden_act == "gelu" and config.type_vocab_size == 2 and not config.is_decoder
    )


def network(model: BertForSequenceClassification, linear: type[Linear]) -> PostNormNetwork:
    """Return the network of a model."""
    own: Any = model.bert
    embeddings = own.embeddings
    return PostNormNetwork(
        with_types(
            embeddings.word_embeddings,
            embeddings.position_embeddings,
            embeddings.token_type_embeddings,
            embeddings.LayerNorm,
        ),
        [layer_parts(layer) for layer in own.encoder.layer],
        model.config.num_attention_heads,
        Head(own.pooler.dense, torch.tanh, model.classifier),
        linear,
    )


def layer_parts(layer: Any) -> LayerParts:
    """Return the parts of a layer of BERT, or of a family that copied its names."""
    attention = layer.attention
    return LayerParts(
        query=attention.self.query,
        key=attention.self.key,
        value=attention.self.value,
        attention_output=attention.output.dense,
        attention_norm=attention.output.LayerNorm,
        up=layer.intermediate.dense,
        down=layer.output.dense,
        norm=layer.output.LayerNorm,
    )


FAMILY = Family((BertForSequenceClassification,), supports, network)
