"""Which of Celery's pools a worker can run in.

In a pool of processes each child has its model. In a pool without children (`threads`, `solo`) the
main process has the one model, and jobs take turns (see `worker.jobs.leases`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from celery import concurrency, signals
from celery.concurrency import prefork, solo, thread

from worker.runtime.exits import exit_misconfigured

_SUPPORTED = (prefork.TaskPool, thread.TaskPool, solo.TaskPool)


@dataclass(frozen=True)
class PoolLayout:
    """How the work is divided among the processes of a worker."""

    main_pid: int
    #: That have a model.
    processes: int
    #: Of each such process.
    threads: int

    @classmethod
    def of_one_process(cls) -> PoolLayout:
        """Return that of a process which is no worker."""
        return cls(os.getpid(), processes=1, threads=1)


def register() -> None:
    """Have Celery check the pool that a worker is started with."""
    signals.celeryd_init.connect(_check)


def pool_class(pool: Any) -> type:
    """Return the class of a pool, given that or its name."""
    kind: type = concurrency.get_implementation(pool)
    return kind


def _check(options: dict[str, Any], conf: Any, **_: Any) -> None:
    """End the process with a line if it cannot score in the pool that was asked for."""
    kind = pool_class(options.get("pool") or options.get("pool_cls") or conf.worker_pool)
    if not issubclass(kind, _SUPPORTED):
        exit_misconfigured(
            f"Error: --pool {kind.__module__.rpartition('.')[2]} cannot be used: a model that"
            " scores would hold up everything else in the process, its lease on the job included."
            " Use prefork (the default), threads or solo"
        )
    if options.get("autoscale") and not issubclass(kind, prefork.TaskPool):
        exit_misconfigured(
            "Error: --autoscale needs --pool prefork: this pool has no children to add"
        )


def processes(kind: type, concurrency: int) -> int:
    """Return the number of processes with a model in a pool of so many children or threads."""
    return concurrency if issubclass(kind, prefork.TaskPool) else 1


def sends_no_process_init(kind: type) -> bool:
    """Return whether Celery sends no `worker_process_init` for this pool."""
    return issubclass(kind, thread.TaskPool)
