"""ModernBERT: `ModernBertForSequenceClassification`, as gte-reranker-modernbert has it."""

from __future__ import annotations

from typing import Any

from transformers import ModernBertForSequenceClassification

from worker.engine.families.family import Family
from worker.engine.linear import Linear
from worker.engine.pre_norm import ClassifierHead, PreNormNetwork


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


def network(model: Any, linear: type[Linear]) -> PreNormNetwork:
    """Return the network of a sequence classifier."""
    head = ClassifierHead(model.head, model.classifier, linear)
    means = model.config.classifier_pooling == "mean"
    return PreNormNetwork(model.model, head, linear, means=means)


FAMILY = Family((ModernBertForSequenceClassification,), supports, network)
