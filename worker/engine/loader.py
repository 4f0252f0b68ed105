"""Load a model by its name and warm it up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeGuard

from contract.errors import ModelUnavailable, OutOfMemory
from contract.models import is_stub
from worker.engine import cuda_errors, memory, model_paths, stub, warmup
from worker.engine.cuda_errors import GpuFailed
from worker.engine.observer import EngineObserver
from worker.engine.protocol import Engine
from worker.engine.scorer import Scorer, failure_message
from worker.engine.unusable import OTHER_MODEL, UnusableModel, takes_no_prompt, unusable_message

if TYPE_CHECKING:
    from worker.engine.prepared import PreparedModel

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
    prepared: PreparedModel | None = None,
) -> Scorer:
    """Load a cross-encoder and warm it up.

    `model` is a name on the Hugging Face hub, which may have a revision, as in `NAME@REVISION`, a
    local path, `bundled`, or `stub` (see `worker.engine.stub`). `threads` and `max_batch_tokens`
    (tokens per batch) are found by measuring if they are None. `dtype` defaults to float32, and to
    float16 on CUDA. `max_length` limits the tokens read of a pair to fewer than the model allows.
    `prompt` is an instruction that the model reads with each pair, if it takes one. Exceptions of
    the types `passed_through` are not treated as failures of the model, neither while loading nor
    while scoring. `prepared` is the same model as `prepare` returned it in another process.

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
        with _errors_of_the_model(model, passed_through):
            if _may_adopt(prepared, model):
                engine, revision = prepared.engine, prepared.revision
            else:
                engine, revision = _load_engine(
                    model,
                    device,
                    threads,
                    max_batch_tokens,
                    dtype,
                    max_length,
                    prompt,
                    observer,
                    passed_through,
                )
            warmup.warm_up(engine, model, observer.loading)
        # Loading and the longest pairs needed much more memory than is needed now.
        memory.release_unused()
    seconds = time.perf_counter() - began
    observer.loaded(model, seconds)
    logger.info("Warmed up %s in %.3fs", model, seconds)
    if revision is not None:
        logger.info("Revision of %s: %s", model, revision)
    return Scorer(
        engine,
        model,
        device,
        revision,
        prompt,
        observer=observer,
        passed_through=passed_through,
    )


def prepare(
    model: str,
    device: str = "cpu",
    threads: int | None = None,
    max_batch_tokens: int | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
    *,
    prompt: str | None = None,
    observer: EngineObserver | None = None,
) -> PreparedModel | None:
    """Load a model as `load` does, for other processes; return None if they must load it.

    They must if `predict` has to score, or if the engine cannot be written to a file. Raises what
    `load` raises.
    """
    from worker.engine.prepared import PreparedModel

    observer = observer or EngineObserver()
    observer.loading(f"loading model {model!r}")
    with _errors_of_the_model(model, ()):
        engine, revision = _load_engine(
            model, device, threads, max_batch_tokens, dtype, max_length, prompt, observer, ()
        )
        return PreparedModel.of(engine, revision)


def import_libraries(models: list[str]) -> None:
    """Import the libraries for these models without computing anything: a fork may follow."""
    if all(map(is_stub, models)):
        return
    with suppress(ModelUnavailable):  # loading will fail without them
        for model in models:
            _locate(model)
        import worker.engine.choice  # noqa: F401


def _may_adopt(prepared: PreparedModel | None, model: str) -> TypeGuard[PreparedModel]:
    if prepared is None or prepared.has_proven_scores():
        return prepared is not None
    logger.warning(
        "Loading %s again, because its scores differ from those of the process that loaded it",
        model,
    )
    return False


def _load_engine(
    model: str,
    device: str,
    threads: int | None,
    max_batch_tokens: int | None,
    dtype: str | None,
    max_length: int | None,
    prompt: str | None,
    observer: EngineObserver,
    passed_through: tuple[type[Exception], ...],
) -> tuple[Engine, str | None]:
    """Return the fastest exact engine for a model, and the model's revision."""
    location = _locate(model)
    # torch takes seconds and hundreds of megabytes to import, so import it only to score.
    from worker.engine import checkpoint, choice, revisions

    encoder = checkpoint.load_encoder(model, device, dtype, max_length, prompt, passed_through)
    observer.loading(f"preparing model {model!r}")
    engine = choice.choose(encoder, threads=threads, max_batch_tokens=max_batch_tokens)
    return engine, revisions.loaded_revision(location)


@contextmanager
def _errors_of_the_model(model: str, passed_through: tuple[type[Exception], ...]) -> Iterator[None]:
    """Translate errors: a model that fails with made-up pairs would fail in every job."""
    try:
        yield
    except passed_through:
        raise
    except (ModelUnavailable, OutOfMemory):
        raise
    except Exception as error:
        if memory.ran_out(error):
            raise OutOfMemory(failure_message(model, error)) from error
        if cuda_errors.ends_the_gpu(error):
            raise GpuFailed(failure_message(model, error)) from error
        if cuda_errors.lacks_kernels(error):
            error = cuda_errors.without_kernels()
        raise ModelUnavailable(unusable_message(model, error)) from error


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
