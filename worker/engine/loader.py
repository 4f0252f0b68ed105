"""Load a model by its name and warm it up."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from contract.errors import ModelUnavailable, OutOfMemory
from contract.models import is_stub
from worker.engine import cuda_errors, memory, model_paths, stub, warmup
from worker.engine.cuda_errors import GpuFailed
from worker.engine.observer import EngineObserver
from worker.engine.protocol import Engine
from worker.engine.scorer import Scorer, failure_message
from worker.engine.unusable import OTHER_MODEL, UnusableModel, takes_no_prompt, unusable_message

logger = logging.getLogger(__name__)


def load(
    model: str,
    device: str = "cpu",
    threads: int | None = None,
    max_batch_tokens: int | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
    *,
    prompt: str | None = None,
    observer: EngineObserver | None = None,
    passed_through: tuple[type[Exception], ...] = (),
) -> Scorer:
    """Load a cross-encoder and warm it up.

    `model` is a name on the Hugging Face hub, which may have a revision, as in `NAME@REVISION`, a
    local path, `bundled`, or `stub` (see `worker.engine.stub`). `threads` and `max_batch_tokens`
    (tokens per batch) are found by measuring if they are None. `dtype` defaults to float32, and to
    float16 on CUDA. `max_length` limits the tokens read of a pair to fewer than the model allows.
    `prompt` is an instruction that the model reads with each pair, if it takes one. Exceptions of
    the types `passed_through` are not treated as failures of the model, neither while loading nor
    while scoring.

    Raises `ModelUnavailable`, or `OutOfMemory`.
    """
    observer = observer or EngineObserver()
    began = time.perf_counter()
    observer.loading(f"loading model {model!r}")
    engine: Engine
    revision: str | None = None
    if is_stub(model):
        device = stub.StubEngine.device
        engine = _load_stub(model, max_batch_tokens, max_length, prompt)
    else:
        # torch takes seconds and hundreds of megabytes to import, so import it only to score.
        location = _locate(model)
        from worker.engine import checkpoint, choice, revisions

        encoder = checkpoint.load_encoder(model, device, dtype, max_length, prompt, passed_through)
        observer.loading(f"preparing model {model!r}")
        try:
            engine = choice.choose(encoder, threads=threads, max_batch_tokens=max_batch_tokens)
            warmup.warm_up(engine, model, observer.loading)
            revision = revisions.loaded_revision(location)
        except passed_through:
            raise
        except OutOfMemory:
            raise
        # A model that fails with made-up pairs would fail in every job.
        except Exception as error:
            if memory.ran_out(error):
                raise OutOfMemory(failure_message(model, error)) from error
            if cuda_errors.ends_the_gpu(error):
                raise GpuFailed(failure_message(model, error)) from error
            raise ModelUnavailable(unusable_message(model, error)) from error
        # A fast engine has its own copy of the weights, and loading needed much more than either.
        del encoder
        memory.release_unused()
    seconds = time.perf_counter() - began
    observer.loaded(model, seconds)
    logger.info("Warmed up %s in %.3fs", model, seconds)
    if revision is not None:
        logger.info("Revision of %s: %s", model, revision)
    return Scorer(
        *(engine, model, device, revision, prompt),
        observer=observer,
        passed_through=passed_through,
    )


def import_libraries(models: list[str]) -> None:
    """Import the libraries for these models without computing anything: a fork may follow."""
    if all(map(is_stub, models)):
        return
    with suppress(ModelUnavailable):  # loading will fail without them
        for model in models:
            _locate(model)
        import worker.engine.choice  # noqa: F401


def _locate(model: str) -> model_paths.Location:
    try:
        return model_paths.locate(model)
    except UnusableModel as error:
        raise ModelUnavailable(unusable_message(model, error)) from error
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"model {model!r} cannot be loaded: {error}. {OTHER_MODEL}"
        ) from error


def _load_stub(
    model: str, max_batch_tokens: int | None, max_length: int | None, prompt: str | None
) -> Engine:
    try:
        if prompt is not None:
            raise takes_no_prompt()
        return stub.load(model, max_batch_tokens, max_length)
    except UnusableModel as error:
        raise ModelUnavailable(unusable_message(model, error)) from error
