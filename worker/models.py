"""Finds and loads cross-encoders: on disk, in the Hugging Face cache, then on the hub."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from contract.errors import ModelUnavailable, OutOfMemory
from contract.settings import INT8
from worker import memory

logger = logging.getLogger(__name__)

#: The small model that ships with this package, by the name a job asks for it.
BUNDLED = "bundled"
BUNDLED_PATH = Path(__file__).parent / "rerank-tiny-en"


def is_int8(model: str) -> bool:
    """Whether the name asks for 8-bit weights."""
    return model.endswith(INT8)


def is_path(model: str) -> bool:
    """Whether the name is that of a folder: it begins like a path, or the folder is there."""
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def load(model: str, device: str, dtype: str | None = None) -> CrossEncoder:
    """Load a cross-encoder: in float32, or on CUDA in float16, unless `dtype` says otherwise.

    Raises `ModelUnavailable` naming the model, where it was looked for, and the ways out, or
    `OutOfMemory`.
    """
    logger.info("Loading cross-encoder model: %s", model)
    began = time.perf_counter()
    try:
        encoder = _find(model.removesuffix(INT8), device, _precision(device, dtype))
    except Exception as error:
        if memory.ran_out(error):
            raise OutOfMemory(f"model {model!r} does not fit into memory: {error}") from error
        raise ModelUnavailable(_unavailable(model, error)) from error
    _check(model, encoder)
    logger.info("Cross-encoder loaded successfully in %.3fs", time.perf_counter() - began)
    return encoder


def _check(model: str, encoder: CrossEncoder) -> None:
    """Refuse what loads without an error and is no reranker."""
    # Loading an embedding model makes up a scoring head, at random.
    saved_as = encoder.model.config.architectures
    loaded_as = type(encoder.model).__name__
    if saved_as and loaded_as not in saved_as:
        raise ModelUnavailable(
            f"model {model!r} is a {saved_as[0]}, not a {loaded_as}: it has no trained scoring head"
        )
    # A folder without a tokenizer gets one that knows the special tokens only.
    tokenizer = encoder.tokenizer
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelUnavailable(f"model {model!r} has no tokenizer: is tokenizer.json missing?")


def _precision(device: str, dtype: str | None) -> torch.dtype:
    """What to load the weights in, whatever precision the model's file has them in."""
    if dtype is None:
        dtype = "float16" if device.startswith("cuda") else "float32"
    precision: torch.dtype = getattr(torch, dtype)
    return precision


def _find(model: str, device: str, dtype: torch.dtype) -> CrossEncoder:
    if model == BUNDLED:
        return _open(str(BUNDLED_PATH), device, dtype, local_files_only=True)
    if is_path(model):
        path = Path(model).expanduser()
        if not path.is_dir():
            raise FileNotFoundError("there is no such folder")
        return _open(str(path), device, dtype, local_files_only=True)
    try:
        # The cache first: no request to the hub at each start, and none needed without network.
        return _open(model, device, dtype, local_files_only=True)
    except (OSError, ValueError):
        _ask_hub(model)
        return _open(model, device, dtype, local_files_only=False)


def _ask_hub(model: str) -> None:
    """Raise at once what loading would raise after a minute of retries."""
    from huggingface_hub import HfApi

    HfApi().model_info(model, timeout=10)


def _open(
    path_or_name: str, device: str, dtype: torch.dtype, *, local_files_only: bool
) -> CrossEncoder:
    return CrossEncoder(
        path_or_name,
        device=device,
        local_files_only=local_files_only,
        trust_remote_code=False,
        model_kwargs={"dtype": dtype},
    )


def _unavailable(model: str, error: Exception) -> str:
    cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME") or "the Hugging Face cache"
    places = f"for a folder of that name, in {cache}, and on the Hugging Face hub"
    looked = "for that folder" if is_path(model) else places
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"model {model!r} cannot be loaded: looked {looked} ({reason}). Ways out: set"
        f" CROSS_ENCODER_MODEL to a local folder or to {BUNDLED!r} (a small model that ships with"
        " rerankq), let this machine reach the hub once, or copy a filled cache and name it in"
        " SENTENCE_TRANSFORMERS_HOME"
    )
