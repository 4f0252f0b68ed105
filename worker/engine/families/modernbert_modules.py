"""ModernBERT in modules of sentence-transformers: Transformer, Pooling, Dense, as ettin has them.

The modules after the pooling are sentence-transformers' own, because they take next to no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize, Pooling
from torch import Tensor
from transformers import ModernBertModel

from worker.engine.families.family import Family
from worker.engine.families.modernbert import supports_layers
from worker.engine.linear import Linear
from worker.engine.pre_norm import PreNormNetwork

#: Modules that read and write one vector per pair.
HEAD_MODULES = (Dense, LayerNorm, Normalize)


def family_of(encoder: CrossEncoder) -> Family | None:
    """Return the family of an encoder of several modules, or None if they are not known."""
    _, pooling, *head = encoder
    if not isinstance(pooling, Pooling) or pooling.pooling_mode not in ("cls", "mean"):
        return None
    if not pooling.include_prompt or not all(isinstance(each, HEAD_MODULES) for each in head):
        return None

    def network(model: Any, linear: type[Linear]) -> PreNormNetwork:
        means = pooling.pooling_mode == "mean"
        return PreNormNetwork(model, partial(_scores, head), linear, means=means)

    return Family((ModernBertModel,), supports_layers, network)


def _scores(head: Sequence[Any], pooled: Tensor) -> Tensor:
    """Return the scores [N] that the modules compute of pooled states [N, h]."""
    features = {"sentence_embedding": pooled.to(next(_parameters(head)).dtype)}
    for module in head:
        features = module(features)
    return features["scores"].squeeze(-1)


def _parameters(head: Sequence[Any]) -> Any:
    return torch.nn.ModuleList(head).parameters()
