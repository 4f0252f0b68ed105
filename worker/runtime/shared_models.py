"""Load the models once for all children: they share the weights with the main process by a fork.

A process that ends loads the models, proves and measures them, and writes them to a file in memory.
The main process reads and packs them. So neither it nor its children import the libraries that only
loading needs, and a replaced child is ready within a second.

The main process computes with a single thread, and only to copy and pack weights. A thread pool
that was used does not survive a fork: its child would wait forever. If packing starts a thread
nevertheless, each child loads the models itself. So it does for models on a GPU, whose driver does
not survive a fork either, for models that `predict` scores, and for those that jobs name.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import threading
from multiprocessing import connection
from pathlib import Path
from typing import IO, TYPE_CHECKING

from contract.printable import counted
from worker.engine import model_classes
from worker.runtime.context import WorkerContext
from worker.runtime.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.runtime.models import PreparedModels

logger = logging.getLogger(__name__)

#: Lists the threads of this process, on Linux only.
TASKS = Path("/proc/self/task")


def can_share(settings: WorkerSettings) -> bool:
    """Return whether children can share these models."""
    return (
        settings.device == "cpu"
        and TASKS.is_dir()
        and settings.prompt is None
        and model_classes.have_fast_path(settings.models)
    )


def prepare(context: WorkerContext) -> None:
    """Load the models, or the libraries, that the children share. Call it before the first fork."""
    from worker.engine import import_libraries

    settings, shareable = context.settings, context.pool_layout.shares_models
    # Jobs are likely to name other models if those were chosen.
    needed = settings.allowed_are_chosen or not model_classes.need_no_libraries(settings.models)
    if needed or not shareable:
        import_libraries(settings.models)
    if shareable:
        # Before the fork, so that both processes share these.
        import worker.engine.exchange
        import worker.engine.prepared  # noqa: F401

        prepared = _load_in_a_process(context)
        if len(prepared) < len(set(settings.models)):
            import_libraries(settings.models)
        context.prepared_models = prepared


def _load_in_a_process(context: WorkerContext) -> PreparedModels:
    """Return the models that another process has loaded, or none if children must load them."""
    with _file_in_memory() as file:
        process = multiprocessing.get_context("fork").Process(
            target=_load, args=(context, file), name="ModelLoader", daemon=True
        )
        process.start()
        process.join(context.settings.model_load_timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode != 0:
            logger.warning(
                "Each child loads the models itself, because the process that loads them for all"
                " children ended with exit code %s",
                process.exitcode,
            )
            return {}
        return _read(file)


def _load(context: WorkerContext, file: IO[bytes]) -> None:
    """Load the models and write them to a file. Runs in a separate process."""
    from worker.engine import exchange

    threading.Thread(target=_end_with_main, daemon=True).start()
    exchange.write(context.new_models({}).prepare(), file)
    file.flush()


def _end_with_main() -> None:
    main = multiprocessing.parent_process()
    if main is not None:
        connection.wait([main.sentinel])
        os._exit(1)


def _read(file: IO[bytes]) -> PreparedModels:
    from worker.engine import exchange, memory
    from worker.engine.threads import torch_threads

    file.seek(0)
    # Some libraries start a thread when they are imported, and renew it after a fork.
    before = _threads()
    with torch_threads(1):
        made: PreparedModels = exchange.read(file)
    memory.release_unused()
    if started := _threads() - before:
        logger.warning(
            "Each child loads the models itself, because packing weights has started %s, which"
            " would not survive a fork",
            counted(len(started), "thread"),
        )
        return {}
    for model in made:
        logger.info("All children share the weights of %s", model[0])
    return made


def _threads() -> set[str]:
    """Return the ids of the threads of this process."""
    return {task.name for task in TASKS.iterdir()}


def _file_in_memory() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("rerankq-models"), "w+b")
    return tempfile.TemporaryFile()
