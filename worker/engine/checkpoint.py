"""Find and load cross-encoders: from disk, from the Hugging Face cache, or from the hub."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch
from sentence_transformers import CrossEncoder

from contract.errors import ModelUnavailable, OutOfMemory
from contract.models import BUNDLED
from worker.engine import (
    checkpoint_checks,
    cuda_errors,
    devices,
    lengths,
    memory,
    model_files,
    padding,
    precision,
    prompts,
)
from worker.engine.model_paths import Location, cache_folder, locate
from worker.engine.unusable import OTHER_MODEL, UnusableModel, one_line, unusable_message

logger = logging.getLogger(__name__)


def load_encoder(
    model: str,
    device: str,
    dtype: str | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
    passed_through: tuple[type[Exception], ...] = (),
) -> CrossEncoder:
    """Load a cross-encoder in float32, or on CUDA in half precision, unless `dtype` is given.

    It reads as many tokens of a pair as the model allows, or `max_length` if that is fewer.
    With each pair, it reads its own prompt if it has one, or `prompt`. Raises
    `OutOfMemory`, or `ModelUnavailable` with the name of the model, the fault (or where the model
    was searched for) and how to fix it. Errors of a GPU come out as they are.
    """
    logger.info("Loading cross-encoder model: %s", model)
    began = time.perf_counter()
    try:
        devices.require(device)
        location = locate(model)

        def load(chosen: torch.dtype) -> CrossEncoder:
            encoder = _open(location, device, chosen)
            padding.ensure_padding_token(encoder)
            checkpoint_checks.check(encoder, location)
            prompts.set_prompt(encoder, prompt)
            lengths.set_max_length(encoder, max_length)
            return encoder

        if dtype is None:
            encoder = _load_in_default_precision(location, device, load)
        else:
            encoder = load(getattr(torch, dtype))
    except passed_through:
        raise
    except UnusableModel as error:
        raise ModelUnavailable(unusable_message(model, error)) from error
    except Exception as error:
        if memory.ran_out(error):
            message = f"not enough memory to load model {model!r}: {one_line(error)}"
            raise OutOfMemory(message) from error
        if cuda_errors.ends_the_gpu(error) or cuda_errors.lacks_kernels(error):
            raise  # not an error of the model
        raise ModelUnavailable(_unavailable(model, error)) from error
    logger.info("Cross-encoder loaded successfully in %.3fs", time.perf_counter() - began)
    return encoder


def _load_in_default_precision(
    location: Location, device: str, load: Callable[[torch.dtype], CrossEncoder]
) -> CrossEncoder:
    """Load a model in the default precision of a device, or in another if scores would overflow."""
    chosen = precision.default(device, location.folder())
    encoder = load(chosen)
    # The configuration may have been downloaded only now.
    stated = precision.default(device, location.folder())
    if stated != chosen:
        encoder, chosen = load(stated), stated
    if chosen == torch.float16 and precision.overflows(encoder):
        instead = precision.wide(device)
        logger.warning("Scores exceed the range of float16: loading the model in %s", instead)
        del encoder  # before another one takes as much memory
        encoder = load(instead)
    return encoder


def _open(location: Location, device: str, dtype: torch.dtype) -> CrossEncoder:
    try:
        # Try the cache first, so that a start sends no request to the hub and needs no network.
        return _read(location, device, dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        if location.is_folder or model_files.find_fault(location.folder(), error):
            raise
        _ask_hub(location)
        return _read(location, device, dtype, local_files_only=False)


def _ask_hub(location: Location) -> None:
    """Raise at once the error that loading would raise after a minute of retries."""
    from huggingface_hub import HfApi

    HfApi().model_info(location.source, revision=location.revision, timeout=10)


def _read(
    location: Location, device: str, dtype: torch.dtype, *, local_files_only: bool
) -> CrossEncoder:
    with checkpoint_checks.quiet_transformers(), model_files.without_advice_to_trust():
        return CrossEncoder(
            location.source,
            revision=location.revision,
            device=device,
            local_files_only=local_files_only,
            trust_remote_code=False,
            # `checkpoint_checks` rejects weights of other shapes, and names them.
            model_kwargs={"dtype": dtype, "ignore_mismatched_sizes": True},
        )


def _unavailable(model: str, error: Exception) -> str:
    try:
        location = locate(model)
    except FileNotFoundError:
        return f"model {model!r} cannot be loaded: {one_line(error)}. {OTHER_MODEL}"
    if found := model_files.find_fault(location.folder(), error):
        return unusable_message(model, found)
    if location.is_folder:
        return unusable_message(model, error)
    cache = cache_folder() or "the Hugging Face cache"
    places = f"for a local folder, in {cache}," if location.revision is None else f"in {cache}"
    return (
        f"model {model!r} cannot be loaded: looked {places} and on the Hugging Face hub"
        f" ({one_line(error)}). Set CROSS_ENCODER_MODEL to a local folder or to"
        f" {BUNDLED!r} (a small model that ships with rerankq), or give this machine access to the"
        " hub for the first start. Alternatively, copy a cache from another machine and set"
        " SENTENCE_TRANSFORMERS_HOME to its folder"
    )
