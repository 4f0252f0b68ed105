"""Find and load cross-encoders: from disk, from the Hugging Face cache, or from the hub."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from sentence_transformers import CrossEncoder

from contract.errors import ModelUnavailable, OutOfMemory
from contract.models import BUNDLED, INT8
from worker.engine import checkpoint_checks, lengths, memory, model_files, padding
from worker.engine.model_paths import bundled_path, is_path, require_folder
from worker.engine.unusable import OTHER_MODEL, UnusableModel, one_line, unusable_message

logger = logging.getLogger(__name__)


def load_encoder(
    model: str,
    device: str,
    dtype: str | None = None,
    max_length: int | None = None,
    passed_through: tuple[type[Exception], ...] = (),
) -> CrossEncoder:
    """Load a cross-encoder in float32, or on CUDA in float16, unless `dtype` is given.

    It reads as many tokens of a pair as the model allows, or `max_length` if that is fewer. Raises
    `OutOfMemory`, or `ModelUnavailable` with the name of the model, the fault (or where the model
    was searched for) and how to fix it.
    """
    logger.info("Loading cross-encoder model: %s", model)
    began = time.perf_counter()
    try:
        source = _source(model.removesuffix(INT8))
        encoder = _open(source, device, _precision(device, dtype))
        padding.ensure_padding_token(encoder)
        checkpoint_checks.check(encoder, source, _cache())
        lengths.set_max_length(encoder, max_length)
    except passed_through:
        raise
    except UnusableModel as error:
        raise ModelUnavailable(unusable_message(model, error)) from error
    except Exception as error:
        if memory.ran_out(error):
            raise OutOfMemory(f"not enough memory to load model {model!r}: {error}") from error
        raise ModelUnavailable(_unavailable(model, error)) from error
    logger.info("Cross-encoder loaded successfully in %.3fs", time.perf_counter() - began)
    return encoder


def _precision(device: str, dtype: str | None) -> torch.dtype:
    """Return the precision to load the weights in, regardless of the precision in the file."""
    if dtype is None:
        dtype = "float16" if device.startswith("cuda") else "float32"
    precision: torch.dtype = getattr(torch, dtype)
    return precision


def _source(model: str) -> str:
    """Return the folder or the hub name to load from."""
    if model == BUNDLED:
        return str(bundled_path())
    if not is_path(model):
        return model
    require_folder(model)
    return str(Path(model).expanduser())


def _open(source: str, device: str, dtype: torch.dtype) -> CrossEncoder:
    try:
        # Try the cache first, so that a start sends no request to the hub and needs no network.
        return _read(source, device, dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        if is_path(source) or model_files.find_fault(_folder(source), error):
            raise
        _ask_hub(source)
        return _read(source, device, dtype, local_files_only=False)


def _ask_hub(model: str) -> None:
    """Raise at once the error that loading would raise after a minute of retries."""
    from huggingface_hub import HfApi

    HfApi().model_info(model, timeout=10)


def _read(source: str, device: str, dtype: torch.dtype, *, local_files_only: bool) -> CrossEncoder:
    with checkpoint_checks.quiet_transformers(), model_files.without_advice_to_trust():
        return CrossEncoder(
            source,
            device=device,
            local_files_only=local_files_only,
            trust_remote_code=False,
            # `checkpoint_checks` rejects weights of other shapes, and names them.
            model_kwargs={"dtype": dtype, "ignore_mismatched_sizes": True},
        )


def _cache() -> str | None:
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def _unavailable(model: str, error: Exception) -> str:
    name = model.removesuffix(INT8)
    if found := model_files.find_fault(_folder(name), error):
        return unusable_message(model, found)
    if is_path(name) and _folder(name):
        return unusable_message(model, error)
    reason = one_line(error)
    if is_path(name):
        return f"model {model!r} cannot be loaded: {reason}. {OTHER_MODEL}"
    if "@" in name:
        reason = f"a revision after @ is not supported; {reason}"
    cache = _cache() or "the Hugging Face cache"
    return (
        f"model {model!r} cannot be loaded: looked for a local folder, in {cache}, and on the"
        f" Hugging Face hub ({reason}). Set CROSS_ENCODER_MODEL to a local folder or to {BUNDLED!r}"
        " (a small model that ships with rerankq), or give this machine access to the hub for the"
        " first start. Alternatively, copy a cache from another machine and set"
        " SENTENCE_TRANSFORMERS_HOME to its folder"
    )


def _folder(name: str) -> Path | None:
    """Return the folder with the files of a model, or None if there is none."""
    if is_path(name):
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    try:
        config = try_to_load_from_cache(name, "config.json", _cache())
    except ValueError:  # not a valid name on the hub
        return None
    return Path(config).parent if isinstance(config, str) else None
