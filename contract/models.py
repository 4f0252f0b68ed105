"""Names of models, as jobs, settings and results have them."""

from __future__ import annotations

#: The published models a job may ask for, smallest first, and the one in this distribution.
KNOWN_MODELS = (
    "cross-encoder/ms-marco-TinyBERT-L-2-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ms-marco-MiniLM-L-12-v2",
    "bundled",
)
DEFAULT_MODEL = "cross-encoder/ms-marco-MiniLM-L-6-v2"

#: After a model's name: the same model with 8-bit weights, which is faster and not exact.
INT8 = "@int8"


def short_name(model: str) -> str:
    """Return the model's name without its owner or folder, as log lines and run tags show it."""
    return model.rstrip("/").rsplit("/", 1)[-1] or model
