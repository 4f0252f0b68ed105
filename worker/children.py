"""The life of a worker's processes: models load in the children, and no model means no worker.

A child that cannot load its model ends the whole worker: one that stayed up would take jobs it
cannot do, and one that tried again and again would hide that nothing is being done.
"""

from __future__ import annotations

import gc
import logging
import mmap
import os
import signal
from pathlib import Path
from typing import Any

from celery import signals

from contract import overview
from contract.errors import RerankError
from worker import counts
from worker.celery import settings
from worker.connection import in_passing, records

logger = logging.getLogger(__name__)

#: EX_UNAVAILABLE of sysexits.h: what the worker's exit status says if a model did not load.
EXIT_NO_MODEL = 69

#: From -1000 to 1000, the highest is killed first.
OOM_SCORE_ADJ = 500

#: One byte that parent and forked children share: whether a child failed to load its model.
_no_model = mmap.mmap(-1, 1)
_main_pid = os.getpid()
_threads = 1


@signals.worker_init.connect
def _prepare_parent(sender: Any, **_: Any) -> None:
    global _main_pid, _threads
    _main_pid = os.getpid()
    _threads = settings.threads_among(sender.concurrency)
    # Torch is imported before the fork, so that the children share its memory; but nothing is
    # computed: a thread pool that was used does not survive a fork, and its child hangs.
    import worker.scorers  # noqa: F401

    # What the collector looks at, it writes to: each child would have a copy of its own.
    gc.collect()
    gc.freeze()


@signals.worker_process_init.connect
def _load_models(**_: Any) -> None:
    # Tokenizers have their own thread pool, which would take every core in each child.
    os.environ.setdefault("RAYON_NUM_THREADS", str(_threads))
    from worker import scoring

    _be_the_first_to_go()
    try:
        scoring.scorer_of(settings.cross_encoder_model)
        scoring.downgrade_model()
    except RerankError as error:
        logger.critical("The worker stops: %s", error)
    # Celery would log any other error and carry on with a child that has no model.
    except BaseException:
        logger.critical("The worker stops: its model did not load", exc_info=True)
    else:
        in_passing(overview.count(records, counts.take()))
        return
    if os.getpid() == _main_pid:  # a pool without children
        raise SystemExit(EXIT_NO_MODEL)
    _no_model[0] = 1
    os.kill(_main_pid, signal.SIGTERM)
    os._exit(EXIT_NO_MODEL)


def _be_the_first_to_go() -> None:
    """If the system has to kill for memory, a child: its job is tried again, and the others go on.

    Linux only; elsewhere the system chooses.
    """
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(str(OOM_SCORE_ADJ))


@signals.worker_shutdown.connect
def _say_why(sender: Any, **_: Any) -> None:
    if _no_model[0]:
        sender.exitcode = EXIT_NO_MODEL


def threads() -> int:
    """Threads of this child."""
    return _threads
