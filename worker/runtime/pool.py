"""The lifecycle of a worker's processes: children load the models, and exit if they cannot.

The main process answers a ping even while its children load or crash repeatedly. It reports whether
they can score when it is asked for its readiness (see `worker.health`).

A child that cannot load its model ends the whole worker. If the worker stayed up, it would take
jobs that it cannot run, and endless retries would hide that no job is being run.
"""

from __future__ import annotations

import gc
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import billiard
from celery import current_app, signals
from celery.worker.control import inspect_command

from contract.errors import RerankError
from contract.store import overview
from worker.runtime import pool_kinds, restart, shared_models
from worker.runtime.context import WorkerContext
from worker.runtime.exit_reason import ModelLoading
from worker.runtime.pool_kinds import PoolLayout

logger = logging.getLogger(__name__)

#: The score is from -1000 to 1000; the process with the highest score is killed first.
CHILD_OOM_SCORE = 500
MAX_OOM_SCORE = 1000


def register() -> None:
    """Make Celery load the models in each process that scores, and add the readiness command."""
    signals.worker_init.connect(_prepare_parent)
    # This signal follows the set-up of the log, and precedes the start of the children.
    signals.celeryd_after_setup.connect(_prepare_fork)
    signals.worker_process_init.connect(_load_models_in_child)
    signals.worker_shutdown.connect(_report_exit_reason)
    inspect_command()(readiness)


def _prepare_parent(sender: Any, **_: Any) -> None:
    context: WorkerContext = sender.app.context
    pool = pool_kinds.pool_class(sender.pool_cls)
    processes = pool_kinds.processes(pool, sender.concurrency)
    context.pool_layout = PoolLayout(
        os.getpid(),
        processes,
        context.settings.threads_among(processes),
        context.settings.tokenizer_threads_among(processes),
        pool_kinds.has_children(pool) and shared_models.can_share(context.settings),
    )
    # A log is not a terminal.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Tokenizers have their own thread pool, which would use every core in each child.
    os.environ.setdefault("RAYON_NUM_THREADS", str(context.pool_layout.tokenizer_threads))
    if hasattr(os, "register_at_fork"):  # not on Windows
        # Set the score before the child runs any other code, because all code needs memory.
        os.register_at_fork(after_in_child=_prefer_as_oom_victim)
    if pool_kinds.sends_no_process_init(pool):
        try:
            _load_models(context)
        except SystemExit:
            context.exit_reason.report(sender)  # nothing is running yet that could shut down
            raise


def _prepare_fork(instance: Any, **_: Any) -> None:
    context: WorkerContext = instance.app.context
    if pool_kinds.has_children(instance.pool_cls):
        shared_models.prepare(context)
    # The garbage collector writes to the objects it visits, so each child would get a copy of them.
    gc.collect()
    gc.freeze()


def _load_models_in_child(**_: Any) -> None:
    _load_models(current_app.context)


def _load_models(context: WorkerContext) -> None:
    exit_reason, layout = context.exit_reason, context.pool_layout
    main_pid, place = layout.main_pid, pool_kinds.place_in_pool()
    loading = ModelLoading(context.models.required, layout.processes, layout.shares_models)
    exit_reason.child_starts_loading(place, loading)
    exit_reason.end_worker(main_pid)
    try:
        context.models.load_all()
    except RerankError as error:
        exit_reason.loading_failed(error, loading)
        exit_reason.end_worker(main_pid)
    # Celery would log any other error and continue with a child that has no model.
    except BaseException as error:
        logger.error("A child process failed to load its models", exc_info=True)
        exit_reason.decide(
            restart.EXIT_NO_MODEL, f"a child process failed to load its models: {error!r}"
        )
        exit_reason.end_worker(main_pid)
    else:
        context.load_progress.write("")
        exit_reason.child_has_loaded(place)
        context.best_effort(overview.count(context.schema, context.counters.take()))


def _prefer_as_oom_victim() -> None:
    """Make the kernel kill a child first when memory runs out, so that only its job is retried.

    Linux only; other systems choose by themselves.
    """
    score = Path("/proc/self/oom_score_adj")
    # A container may have no access to the file, and is not allowed to lower a score.
    with suppress(OSError):
        higher = int(score.read_text()) + CHILD_OOM_SCORE
        score.write_text(str(min(higher, MAX_OOM_SCORE)))


def _report_exit_reason(sender: Any, **_: Any) -> None:
    sender.app.context.exit_reason.report(sender)


def readiness(state: Any, **_: Any) -> dict[str, Any]:
    """Return the number of children, and how many are alive and have loaded their models."""
    context: WorkerContext = state.app.context
    # Do not ask the pool, which may notice the death of a child a few seconds later. A pool without
    # children scores in the main process.
    pool = state.consumer.pool
    alive = {os.getpid(), *(child.pid for child in billiard.active_children())}
    return {
        "children": pool_kinds.processes(type(pool), pool.num_processes),
        "ready": len(alive & context.exit_reason.loaded_pids()),
        "model": context.settings.cross_encoder_model,
        "stage": context.load_progress.read(),
        "scorings": context.loaded_scorings.of(alive),
    }
