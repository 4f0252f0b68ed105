"""Model names, as used in jobs, settings and results."""

from __future__ import annotations

#: The small model that ships with rerankq.
BUNDLED = "bundled"
#: The engine without a model; options may follow a colon: see `worker.engine.stub`.
STUB = "stub"

#: The published models that a job may request, smallest first, and the bundled one.
KNOWN_MODELS = (
    "cross-encoder/ms-marco-TinyBERT-L-2-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ms-marco-MiniLM-L-12-v2",
    BUNDLED,
)
DEFAULT_MODEL = "cross-encoder/ms-marco-MiniLM-L-6-v2"

#: Suffix of a model's name: the same model with 8-bit weights, which is faster but inexact.
INT8 = "@int8"


def short_name(model: str) -> str:
    """Return the model's name without its owner or folder, for log lines and run tags."""
    return model.rstrip("/").rsplit("/", 1)[-1] or model


def is_int8(model: str) -> bool:
    """Return whether the name requests 8-bit weights."""
    return model.endswith(INT8)


def is_stub(model: str) -> bool:
    """Return whether the name refers to the stub engine."""
    return model.partition(":")[0].removesuffix(INT8) == STUB
