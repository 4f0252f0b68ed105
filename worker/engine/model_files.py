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
FETCH_AGAIN = "fetch the model's files again"


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
            "its pickled weights hold more than tensors, and rerankq runs no code of a model",
            "use its weights in the safetensors format",
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
            "The model names an activation function of its own, and rerankq runs no code of a"
            " model: its scores are without that function"
        )
        record.args = ()
    return True


def _check_files(folder: Path) -> UnusableModel | None:
    for path in sorted(folder.iterdir()):
        if path.is_file() and _begins_with(path, LFS_POINTER):
            return UnusableModel(
                f"{path.name} is a pointer of Git LFS, without its content", "run git lfs pull"
            )
    return None


def _check_config(folder: Path) -> UnusableModel | None:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            return UnusableModel(
                "it is an adapter (peft) without its base model",
                "merge it into its base model, and save that",
            )
        return UnusableModel("it has no config.json: it is no model of transformers")
    for each in sorted(folder.glob("*.json")):
        try:
            json.loads(each.read_bytes())
        except ValueError as error:
            return UnusableModel(f"its {each.name} is not JSON ({error})", FETCH_AGAIN)
    return _check_architecture(json.loads(path.read_bytes()))


def _check_architecture(config: Any) -> UnusableModel | None:
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type is None:
        return UnusableModel("its config.json names no model_type: it is no model of transformers")
    if model_type in CONFIG_MAPPING:
        return None
    if config.get("auto_map"):
        return needs_code()
    return UnusableModel(
        f"transformers {transformers.__version__} knows no architecture {model_type!r}, which its"
        " config.json names"
    )


def _check_weights(folder: Path) -> UnusableModel | None:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            return UnusableModel(f"{path.name} is damaged, or not whole ({error})", FETCH_AGAIN)
    return None


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
