"""What the name of a model means: a folder, the bundled one, the stub, or a name on the hub."""

from __future__ import annotations

from pathlib import Path

from contract.models import INT8
from worker.engine.unusable import UnusableModel

#: The small model that ships with rerankq, by the name a job asks for it.
BUNDLED = "bundled"

#: The engine without a model, alone or with options behind a colon (see `worker.engine.stub`).
STUB = "stub"


def bundled_path() -> Path:
    """Return the bundled model's folder. Raises `UnusableModel` where it is not installed."""
    try:
        import rerankq_bundled_model
    except ModuleNotFoundError as error:
        raise UnusableModel(
            "the package rerankq-bundled-model is not installed",
            "pip install './rerankq_bundled_model' in a checkout of rerankq, as its extra `worker`"
            " does, or name another model in CROSS_ENCODER_MODEL",
        ) from error
    return rerankq_bundled_model.PATH


def is_int8(model: str) -> bool:
    """Return whether the name asks for 8-bit weights."""
    return model.endswith(INT8)


def is_path(model: str) -> bool:
    """Return whether the name is that of a folder: it begins like a path, or the folder exists."""
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def is_stub(model: str) -> bool:
    """Return whether the name is that of the stub engine."""
    return model.partition(":")[0].removesuffix(INT8) == STUB
