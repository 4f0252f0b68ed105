"""Find out why a model does not load, by inspecting its files."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from worker.engine.unusable import UnusableModel, needs_code

LFS_POINTER = b"version https://git-lfs"
#: Words in error messages: of transformers and sentence-transformers about a model with its own
#: code, and of torch about a pickle that holds more than tensors.
REMOTE_CODE, PICKLE = "remote_code", "weights_only"
#: Loggers that warn of an activation function that is not torch's.
_ADVISERS = (
    "sentence_transformers.cross_encoder.model",
    "sentence_transformers.base.modules.dense",
)
FETCH_AGAIN = "Download the model's files again"


def find_fault(folder: Path | None, error: Exception) -> UnusableModel | None:
    """Return the fault, or None if none is found. `folder` is None if there is no local copy."""
    if folder is not None:
        for check in (_check_files, _check_config, _check_weights):
            if found := check(folder):
                return found
    if REMOTE_CODE in str(error):
        return needs_code()
    if PICKLE in str(error):
        return UnusableModel(
            "its pickled weights contain more than tensors, and rerankq does not run code from a"
            " model",
            "Use weights in the safetensors format",
        )
    return None


@contextmanager
def without_advice_to_trust() -> Iterator[None]:
    """Suppress the warnings of sentence-transformers that recommend trusting a model's code."""
    loggers = [logging.getLogger(name) for name in _ADVISERS]
    for each in loggers:
        each.addFilter(_reword)
    try:
        yield
    finally:
        for each in loggers:
            each.removeFilter(_reword)


def _reword(record: logging.LogRecord) -> bool:
    if REMOTE_CODE in record.getMessage():
        record.msg = (
            "Ignoring the model's own activation function, because rerankq does not run code from a"
            " model. Scores are computed without it"
        )
        record.args = ()
    return True


def _check_files(folder: Path) -> UnusableModel | None:
    for path in sorted(folder.iterdir()):
        if path.is_file() and _begins_with(path, LFS_POINTER):
            return UnusableModel(
                f"its {path.name} is a Git LFS pointer instead of the file itself",
                "Run git lfs pull in the model's folder",
            )
    return None


def _check_config(folder: Path) -> UnusableModel | None:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            return UnusableModel(
                "it is a PEFT adapter without its base model",
                "Merge the adapter into its base model, and save the result",
            )
        return UnusableModel("it is not a transformers model: it has no config.json")
    for each in sorted(folder.glob("*.json")):
        try:
            json.loads(each.read_bytes())
        except ValueError as error:
            return UnusableModel(f"its {each.name} is not valid JSON ({error})", FETCH_AGAIN)
    return _check_architecture(json.loads(path.read_bytes()))


def _check_architecture(config: Any) -> UnusableModel | None:
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type is None:
        return UnusableModel("it is not a transformers model: its config.json has no model_type")
    if model_type in CONFIG_MAPPING:
        return None
    if config.get("auto_map"):
        return needs_code()
    return UnusableModel(
        f"transformers {transformers.__version__} does not support its architecture, {model_type!r}"
    )


def _check_weights(folder: Path) -> UnusableModel | None:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            return UnusableModel(f"its {path.name} is damaged or incomplete ({error})", FETCH_AGAIN)
    return None


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
