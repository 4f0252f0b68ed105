"""The life of a worker's processes: models load in the children, and no model means no worker.

The main process answers a ping also while its children load, or die again and again: whether they
can score, it says when it is asked for its readiness (see `worker.health`).

A child that cannot load its model ends the whole worker: one that stayed up would take jobs it
cannot do, and one that tried again and again would hide that nothing is being done.
"""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import Any

import billiard
from celery import signals
from celery.worker.control import inspect_command

from contract.errors import RerankError
from contract.store import overview
from worker.runtime import counters, exit_reason, load_progress, pool_kinds, restart
from worker.runtime.app import settings
from worker.runtime.connection import best_effort, schema

logger = logging.getLogger(__name__)

#: From -1000 to 1000, the highest is killed first.
OOM_SCORE_ADJ = 500

_main_pid = os.getpid()
_threads = 1
_children = 1


@signals.worker_init.connect
def _prepare_parent(sender: Any, **_: Any) -> None:
    global _main_pid, _threads, _children
    _main_pid = os.getpid()
    pool = pool_kinds.kind_of(sender.pool_cls)
    _children = pool_kinds.processes(pool, sender.concurrency)
    _threads = settings.threads_among(_children)
    # A log is no terminal.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Torch is imported before the fork, so that the children share its memory; but nothing is
    # computed: a thread pool that was used does not survive a fork, and its child hangs.
    from worker.engine import import_libraries

    import_libraries([settings.cross_encoder_model, *filter(None, [settings.downgrade_to])])

    # What the collector looks at, it writes to: each child would have a copy of its own.
    gc.collect()
    gc.freeze()
    if pool_kinds.never_says_that_it_starts(pool):
        try:
            _load_models()
        except SystemExit:
            exit_reason.say(sender)  # there is nothing yet that could shut down
            raise


@signals.worker_process_init.connect
def _load_models(**_: Any) -> None:
    # Tokenizers have their own thread pool, which would take every core in each child.
    os.environ.setdefault("RAYON_NUM_THREADS", str(_threads))
    from worker.jobs import scoring_plan

    _be_the_first_to_go()
    place = getattr(billiard.current_process(), "index", 0)
    # Without the downgrade model if it is the same, or a default that may be nowhere.
    chosen = settings.downgrade_to if settings.downgrade_is_chosen else None
    models = list(dict.fromkeys(filter(None, (settings.cross_encoder_model, chosen))))
    exit_reason.began(place, models, _children)
    exit_reason.end_worker(_main_pid)
    try:
        scoring_plan.scorer_for(settings.cross_encoder_model)
        scoring_plan.downgrade_model()
    except RerankError as error:
        exit_reason.failed(error, models, _children)
        exit_reason.end_worker(_main_pid)
    # Celery would log any other error and carry on with a child that has no model.
    except BaseException as error:
        logger.error("A child could not load its models", exc_info=True)
        exit_reason.give(restart.EXIT_NO_MODEL, f"its model did not load: {error!r}")
        exit_reason.end_worker(_main_pid)
    else:
        load_progress.write("")
        exit_reason.loaded(place)
        best_effort(overview.count(schema, counters.take()))


@inspect_command()
def readiness(state: Any, **_: Any) -> dict[str, Any]:
    """The children that this worker is to have, and those that live and have their models."""
    # Not those that the pool knows: it may notice the death of one some seconds later. A pool
    # without children scores in the main process.
    pool = state.consumer.pool
    alive = {os.getpid(), *(child.pid for child in billiard.active_children())}
    return {
        "children": pool_kinds.processes(type(pool), pool.num_processes),
        "ready": len(alive & exit_reason.ready()),
        "model": settings.cross_encoder_model,
        "stage": load_progress.read(),
    }


def _be_the_first_to_go() -> None:
    """If the system has to kill for memory, a child: its job is tried again, and the others go on.

    Linux only; elsewhere the system chooses.
    """
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(str(OOM_SCORE_ADJ))


def threads() -> int:
    """Threads of this child."""
    return _threads
