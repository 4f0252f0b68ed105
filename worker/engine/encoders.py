"""Properties of a loaded CrossEncoder of sentence-transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


def gives_logits(encoder: CrossEncoder) -> bool:
    """Return whether scores are raw logits: false if the model has its own activation function."""
    return isinstance(encoder.activation_fn, torch.nn.Identity | torch.nn.Sigmoid)


def max_length(encoder: CrossEncoder) -> int:
    """Return the number of tokens of a pair that the model reads, as set by `lengths`."""
    return int(encoder.tokenizer.model_max_length)


def weights_dtype(encoder: CrossEncoder) -> str:
    """Return the precision of the model's weights, for example `float32`."""
    return str(encoder.model.dtype).removeprefix("torch.")
