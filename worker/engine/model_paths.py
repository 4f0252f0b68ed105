"""Locate the files of a model by its name."""

from __future__ import annotations

from pathlib import Path

from worker.engine.unusable import UnusableModel


def bundled_path() -> Path:
    """Return the folder of the bundled model. Raises `UnusableModel` if it is not installed."""
    try:
        import rerankq_bundled_model
    except ModuleNotFoundError as error:
        raise UnusableModel(
            "the package rerankq-bundled-model is not installed",
            "Install rerankq with its extra 'worker', run pip install ./rerankq_bundled_model in a"
            " checkout of rerankq, or set CROSS_ENCODER_MODEL to another model",
        ) from error
    return rerankq_bundled_model.PATH


def is_path(model: str) -> bool:
    """Return whether the name is a folder: it begins like a path, or the folder exists."""
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def require_folder(model: str) -> None:
    """Raise `FileNotFoundError` if the name is that of a folder that does not exist."""
    if is_path(model) and not Path(model).expanduser().is_dir():
        raise FileNotFoundError("the folder does not exist")
