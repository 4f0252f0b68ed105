"""Finds and loads cross-encoders: on disk, in the Hugging Face cache, then on the hub."""

from __future__ import annotations

import logging
import os
import textwrap
import time
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from sentence_transformers import CrossEncoder

from contract.errors import ModelUnavailable, OutOfMemory
from contract.settings import INT8
from worker.engine import checkpoint_checks, lengths, load_progress, memory, model_files, padding
from worker.engine.checkpoint_checks import Unfit

logger = logging.getLogger(__name__)

#: The small model that ships with rerankq, by the name a job asks for it.
BUNDLED = "bundled"
#: Of a foreign error in a message: some list all architectures there are.
REASON_CHARS = 400


def bundled_path() -> Path:
    """Return the bundled model's folder. Raises `Unfit` where it is not installed."""
    try:
        import rerankq_bundled_model
    except ModuleNotFoundError as error:
        raise Unfit(
            "the package rerankq-bundled-model is not installed",
            "pip install './rerankq_bundled_model' in a checkout of rerankq, as the extra `worker`"
            f" does; or {checkpoint_checks.OTHER_MODEL}",
        ) from error
    return rerankq_bundled_model.PATH


def is_int8(model: str) -> bool:
    """Whether the name asks for 8-bit weights."""
    return model.endswith(INT8)


def is_path(model: str) -> bool:
    """Whether the name is that of a folder: it begins like a path, or the folder is there."""
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def load(
    model: str, device: str, dtype: str | None = None, max_length: int | None = None
) -> CrossEncoder:
    """Load a cross-encoder: in float32, or on CUDA in float16, unless `dtype` says otherwise.

    It reads as many tokens of a pair as it allows, or `max_length` if that is fewer. Raises
    `OutOfMemory`, or `ModelUnavailable` naming the model, what is wrong with it (or where it was
    looked for) and the ways out.
    """
    logger.info("Loading cross-encoder model: %s", model)
    load_progress.say(f"loading model {model!r}")
    began = time.perf_counter()
    try:
        source = _source(model.removesuffix(INT8))
        encoder = _open(source, device, _precision(device, dtype))
        padding.settle(encoder)
        checkpoint_checks.check(encoder, source, _cache())
        lengths.settle(encoder, max_length)
    except Unfit as error:
        raise ModelUnavailable(unusable(model, error)) from error
    except Exception as error:
        if memory.ran_out(error):
            raise OutOfMemory(f"model {model!r} does not fit into memory: {error}") from error
        raise ModelUnavailable(_unavailable(model, error)) from error
    logger.info("Cross-encoder loaded successfully in %.3fs", time.perf_counter() - began)
    return encoder


def unusable(model: str, error: Exception) -> str:
    """Return the message for a model that was found and cannot be served."""
    if isinstance(error, Unfit):
        return f"model {model!r} cannot be used: {error}"
    way_out = checkpoint_checks.OTHER_MODEL
    return f"model {model!r} cannot be used: {_one_line(error)}. Way out: {way_out}"


def _precision(device: str, dtype: str | None) -> torch.dtype:
    """What to load the weights in, whatever precision the model's file has them in."""
    if dtype is None:
        dtype = "float16" if device.startswith("cuda") else "float32"
    precision: torch.dtype = getattr(torch, dtype)
    return precision


def _source(model: str) -> str:
    """Return the folder or the hub's name to load from."""
    if model == BUNDLED:
        return str(bundled_path())
    if not is_path(model):
        return model
    path = Path(model).expanduser()
    if not path.is_dir():
        raise FileNotFoundError("there is no such folder")
    return str(path)


def _open(source: str, device: str, dtype: torch.dtype) -> CrossEncoder:
    try:
        # The cache first: no request to the hub at each start, and none needed without network.
        return _read(source, device, dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        if is_path(source) or model_files.complaint(_folder(source), error):
            raise
        _ask_hub(source)
        return _read(source, device, dtype, local_files_only=False)


def _ask_hub(model: str) -> None:
    """Raise at once what loading would raise after a minute of retries."""
    from huggingface_hub import HfApi

    HfApi().model_info(model, timeout=10)


def _read(source: str, device: str, dtype: torch.dtype, *, local_files_only: bool) -> CrossEncoder:
    with checkpoint_checks.quiet_transformers(), model_files.in_our_words():
        return CrossEncoder(
            source,
            device=device,
            local_files_only=local_files_only,
            trust_remote_code=False,
            # `fitness` refuses weights of another shape, and names them.
            model_kwargs={"dtype": dtype, "ignore_mismatched_sizes": True},
        )


def _cache() -> str | None:
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def _unavailable(model: str, error: Exception) -> str:
    name = model.removesuffix(INT8)
    if found := model_files.complaint(_folder(name), error):
        return unusable(model, found)
    if is_path(name) and _folder(name):
        return unusable(model, error)
    reason = _one_line(error)
    if not is_path(model) and "@" in name:
        reason = f"no revision can be named; {reason}"
    cache = _cache() or "the Hugging Face cache"
    places = f"for a folder of that name, in {cache}, and on the Hugging Face hub"
    looked = "for that folder" if is_path(model) else places
    return (
        f"model {model!r} cannot be loaded: looked {looked} ({reason}). Ways out: set"
        f" CROSS_ENCODER_MODEL to a local folder or to {BUNDLED!r} (a small model that ships with"
        " rerankq), let this machine reach the hub once, or copy a filled cache and name it in"
        " SENTENCE_TRANSFORMERS_HOME"
    )


def _folder(name: str) -> Path | None:
    """Return where a model's files are, None if there are none."""
    if is_path(name):
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    try:
        config = try_to_load_from_cache(name, "config.json", _cache())
    except ValueError:  # no name that the hub allows
        return None
    return Path(config).parent if isinstance(config, str) else None


def _one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), REASON_CHARS, placeholder=" ...") or type(error).__name__
