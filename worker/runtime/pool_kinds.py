"""The kinds of Celery pools that a worker can run in.

In a process pool, each child has its own model. In a pool without children (`threads`, `solo`), the
main process has one model, and jobs take turns (see `worker.jobs.leases`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import billiard
from celery import concurrency, signals
from celery.concurrency import prefork, solo, thread

from worker.runtime.exits import exit_misconfigured

_SUPPORTED = (prefork.TaskPool, thread.TaskPool, solo.TaskPool)


@dataclass(frozen=True)
class PoolLayout:
    """The division of the work among the processes of a worker."""

    main_pid: int
    #: The number of processes with a model.
    processes: int
    #: Threads per process that score, and those of the tokenizers library.
    threads: int
    tokenizer_threads: int
    #: Whether the processes share models that were loaded once.
    shares_models: bool = False

    @classmethod
    def of_one_process(cls) -> PoolLayout:
        """Return the layout of a process that is not a worker."""
        return cls(os.getpid(), processes=1, threads=1, tokenizer_threads=1)


def register() -> None:
    """Make Celery check the pool that a worker is started with."""
    signals.celeryd_init.connect(_check)


def pool_class(pool: Any) -> type:
    """Return the class of a pool, given the class or its name."""
    kind: type = concurrency.get_implementation(pool)
    return kind


def _check(options: dict[str, Any], conf: Any, **_: Any) -> None:
    """Exit with a message if a worker cannot score in the requested pool."""
    kind = pool_class(options.get("pool") or options.get("pool_cls") or conf.worker_pool)
    if not issubclass(kind, _SUPPORTED):
        exit_misconfigured(
            f"Error: --pool {kind.__module__.rpartition('.')[2]} is not supported: scoring would"
            " block everything else in the process, including the renewal of leases. Use prefork"
            " (the default), threads or solo"
        )
    if options.get("autoscale") and not issubclass(kind, prefork.TaskPool):
        exit_misconfigured(
            "Error: --autoscale requires --pool prefork: this pool has no child processes to add"
        )


def processes(kind: type, concurrency: int) -> int:
    """Return how many processes have a model in a pool of `concurrency` children or threads."""
    return concurrency if has_children(kind) else 1


def has_children(kind: type) -> bool:
    """Return whether child processes score in a pool of this kind."""
    return issubclass(kind, prefork.TaskPool)


def place_in_pool() -> int:
    """Return the place of this child in its pool; a replacement takes that of its predecessor."""
    place: int = getattr(billiard.current_process(), "index", 0)
    return place


def sends_no_process_init(kind: type) -> bool:
    """Return whether Celery does not send `worker_process_init` for this pool."""
    return issubclass(kind, thread.TaskPool)
