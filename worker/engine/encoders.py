"""What a loaded CrossEncoder of sentence-transformers says of itself."""

from __future__ import annotations

import torch
from sentence_transformers import CrossEncoder


def gives_logits(encoder: CrossEncoder) -> bool:
    """Return whether the score is the logit: not if the model has an activation of its own."""
    return isinstance(encoder.activation_fn, torch.nn.Identity | torch.nn.Sigmoid)


def max_length(encoder: CrossEncoder) -> int:
    """Return the tokens of a pair that the model reads, once `lengths` has set them."""
    return int(encoder.tokenizer.model_max_length)


def weights_dtype(encoder: CrossEncoder) -> str:
    """Return the precision of the model's weights, as in `float32`."""
    return str(encoder.model.dtype).removeprefix("torch.")
