"""RoBERTa, XLM-RoBERTa and CamemBERT, on which bge-reranker and many multilingual models build."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    CamembertForSequenceClassification,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from worker.engine.embeddings import Embeddings
from worker.engine.families.bert import layer_parts
from worker.engine.families.family import Family
from worker.engine.linear import Linear
from worker.engine.packing import Batch, Ids
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
    padding_id = embeddings.padding_idx
    return PostNormNetwork(
        Embeddings(
            embeddings.word_embeddings,
            places,
            embeddings.LayerNorm,
            lambda batch: _places(batch, padding_id),
        ),
        [layer_parts(layer) for layer in model.roberta.encoder.layer],
        model.config.num_attention_heads,
        Head(model.classifier.dense, torch.tanh, model.classifier.out_proj),
        linear,
    )


def _places(batch: Batch, padding_id: int) -> Ids:
    """Return the position of each token: the padding's id for padding, otherwise counted after it.

    Padding tokens that a text contains do not count, as in transformers'
    `create_position_ids_from_input_ids`.
    """
    is_padding = batch.ids == padding_id
    skipped = np.cumsum(is_padding)
    before = np.concatenate([np.zeros(1, skipped.dtype), skipped])
    starts = np.arange(len(batch.ids)) - batch.positions
    counted = batch.positions + 1 - (skipped - before[starts])
    places = np.where(is_padding, padding_id, padding_id + counted)
    return places.astype(np.int32)


FAMILY = Family(
    (
        RobertaForSequenceClassification,
        XLMRobertaForSequenceClassification,
        CamembertForSequenceClassification,
    ),
    supports,
    network,
)
