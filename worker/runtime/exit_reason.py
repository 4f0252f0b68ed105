"""Why a worker ends by itself: decided in a child, said once by the main process, as its last line.

A child that cannot load its model reports that itself. One that is killed while it loads cannot:
the child that takes its place in the pool finds what it left in shared memory.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import signals

from contract.errors import OutOfMemory, RerankError
from contract.settings import INT8
from worker.engine import model_names
from worker.runtime import memory_limit, restart
from worker.runtime.memory_limit import MB

logger = logging.getLogger(__name__)

#: Children in a row that may end while they load, for another reason than memory: somebody may
#: have killed them by hand.
MAX_DEATHS = 3

#: One byte for the exit code, then the reason. Parent and forked children share all of these.
_verdict = mmap.mmap(-1, mmap.PAGESIZE)
#: Whether the verdict is this process's own.
_gave = False
#: By place in the pool: the process that began to load its models, and the one that has them.
_began = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")
_loaded = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")
#: By place in the pool: kills for lack of memory before the process began.
_kills = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")
#: Children that ended while they loaded, since one has loaded.
_deaths = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")


def began(place: int, models: Sequence[str], children: int) -> None:
    """Note that this process loads its models, and judge what became of the one before it."""
    before = _began[place]
    if before and before != _loaded[place]:
        _killed(before, _kills[place], models, children)
    _began[place] = os.getpid()
    _kills[place] = memory_limit.kills() or 0


def loaded(place: int) -> None:
    """Note that this process has its models."""
    _loaded[place] = os.getpid()
    _deaths[0] = 0


def ready() -> set[int]:
    """Return the ids of the processes that have their models; some may have ended since."""
    return set(_loaded)


def failed(error: RerankError, models: Sequence[str], children: int) -> None:
    """Have the worker end, because its models did not load."""
    if isinstance(error, OutOfMemory):
        give(restart.EXIT_NO_MEMORY, f"{error}. {_memory(models, children)}")
    else:
        give(restart.EXIT_NO_MODEL, str(error))


def give(code: int, reason: str) -> None:
    """Have the worker end with this exit code; the first reason counts."""
    global _gave
    if not _verdict[0]:
        _gave = True
        said = reason.encode()[: len(_verdict) - 2]
        _verdict[1 : 1 + len(said)] = said
        _verdict[0] = code


def _killed(pid: int, kills_before: int, models: Sequence[str], children: int) -> None:
    names = " and ".join(map(repr, models))
    if (memory_limit.kills() or 0) > kills_before:
        give(
            restart.EXIT_NO_MEMORY,
            f"the kernel killed a child (process {pid}) for lack of memory while it loaded"
            f" {names}. {_memory(models, children)}",
        )
    _deaths[0] += 1
    if _deaths[0] >= MAX_DEATHS:
        give(
            restart.EXIT_NO_MODEL,
            f"{MAX_DEATHS} children in a row ended while they loaded {names}, the last as process"
            f" {pid}; the lines above that say 'exited with' name the signals",
        )


def _memory(models: Sequence[str], children: int) -> str:
    """The limit, the need, and the way out."""
    bound = memory_limit.limit()
    allowed = f"The limit is {bound}" if bound else "There is no limit but the machine's memory"
    weights = sum(_weight_bytes(model) for model in models)
    need = memory_limit.need_bytes(weights, children)
    return (
        f"{allowed}; {children} children whose models have {weights / MB:,.0f} MB of weights"
        f" need about {need / MB:,.0f} MB, and more for long documents. Raise the limit"
        " (WORKER_MEMORY with the compose file), start fewer children (--concurrency or"
        " WORKER_CONCURRENCY), or choose a smaller model"
    )


def _weight_bytes(model: str) -> int:
    if model_names.is_stub(model):
        return 0
    from huggingface_hub import try_to_load_from_cache

    name = model.removesuffix(INT8)
    if name == model_names.BUNDLED:
        return memory_limit.weight_bytes(model_names.bundled_path())
    if model_names.is_path(name):
        return memory_limit.weight_bytes(Path(name).expanduser())
    cached = try_to_load_from_cache(name, "config.json")
    return memory_limit.weight_bytes(Path(cached).parent) if isinstance(cached, str) else 0


@signals.worker_shutdown.connect
def say(sender: Any, **_: Any) -> None:
    """Log why the worker stops, and have it exit with that code, if there is a verdict."""
    code = _verdict[0]
    if not code:
        return
    sender.exitcode = code
    reason = _verdict[1:].rstrip(b"\0").decode(errors="ignore")
    again = os.environ.get(restart.AGAIN_IN_S)
    logger.critical(
        "The worker stops (exit code %d): %s.%s",
        code,
        reason.removesuffix("."),
        f" It is started again in {again} s." if again else "",
    )


def end_worker(main_pid: int) -> None:
    """Leave this process, and have the main process stop, if there is a verdict."""
    code = _verdict[0]
    if not code:
        return
    if os.getpid() == main_pid:  # a pool without children
        raise SystemExit(code)
    if _gave:
        os.kill(main_pid, signal.SIGTERM)
    os._exit(code)
