"""Names of models, as jobs, settings and results have them."""

from __future__ import annotations

#: The small model that ships with rerankq.
BUNDLED = "bundled"
#: The engine without a model, alone or with options behind a colon: see `worker.engine.stub`.
STUB = "stub"

#: The published models a job may ask for, smallest first, and the one that ships with rerankq.
KNOWN_MODELS = (
    "cross-encoder/ms-marco-TinyBERT-L-2-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "cross-encoder/ms-marco-MiniLM-L-12-v2",
    BUNDLED,
)
DEFAULT_MODEL = "cross-encoder/ms-marco-MiniLM-L-6-v2"

#: After a model's name: the same model with 8-bit weights, which is faster and not exact.
INT8 = "@int8"


def short_name(model: str) -> str:
    """Return the model's name without its owner or folder, as log lines and run tags show it."""
    return model.rstrip("/").rsplit("/", 1)[-1] or model


def is_int8(model: str) -> bool:
    """Return whether the name asks for 8-bit weights."""
    return model.endswith(INT8)


def is_stub(model: str) -> bool:
    """Return whether the name is that of the stub engine."""
    return model.partition(":")[0].removesuffix(INT8) == STUB
