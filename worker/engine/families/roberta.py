"""RoBERTa, XLM-RoBERTa and CamemBERT, on which bge-reranker and many multilingual models build."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers import (
    CamembertForSequenceClassification,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from worker.engine.embeddings import Embeddings, places_after_padding
from worker.engine.families.bert import layer_parts
from worker.engine.families.family import Family
from worker.engine.linear import Linear
from worker.engine.post_norm import Head, PostNormNetwork


def supports(model: Any) -> bool:
    """Return whether the model has the activation, types and attention of RoBERTa."""
    config = model.config
    return bool(
        config.hidden_act == "gelu" and config.type_vocab_size == 1 and not config.is_decoder
    )


def network(model: Any, linear: type[Linear]) -> PostNormNetwork:
    """Return the network of a model."""
    embeddings = model.roberta.embeddings
    types = embeddings.token_type_embeddings.weight.detach()  # [1, h]
    places = embeddings.position_embeddings.weight.detach() + types
    padding_id: int = embeddings.padding_idx
    return PostNormNetwork(
        Embeddings(
            embeddings.word_embeddings,
            places,
            embeddings.LayerNorm,
            partial(places_after_padding, padding_id),
        ),
        [layer_parts(layer) for layer in model.roberta.encoder.layer],
        model.config.num_attention_heads,
        Head(model.classifier.dense, torch.tanh, model.classifier.out_proj),
        linear,
    )


FAMILY = Family(
    (
        RobertaForSequenceClassification,
        XLMRobertaForSequenceClassification,
        CamembertForSequenceClassification,
    ),
    supports,
    network,
)
