"""Celery's process pool, with our own handling of children that fail to start."""

from __future__ import annotations

from collections.abc import Callable

from celery.concurrency import asynpool, prefork

#: Interval between checks for ended children, in seconds. Celery's default is five. It is notified
#: of most deaths immediately, but misses one that completes after the notification.
CHILD_CHECK_S = 1.0


class AsynPool(asynpool.AsynPool):
    """Celery's pool of children, which notices their deaths within a second."""

    @property
    def timers(self) -> dict[Callable[[], object], float]:
        """The functions that the event loop calls periodically, and their intervals in seconds."""
        return {self.maintain_pool: CHILD_CHECK_S}


class TaskPool(prefork.TaskPool):
    """Celery's pool, with `worker.runtime.pool` deciding whether children start correctly."""

    Pool = AsynPool

    def did_start_ok(self) -> bool:
        """Return True, because Celery would exit with a traceback if a child has ended.

        A child that cannot load its model stops the worker with the reason, and a killed one is
        replaced.
        """
        return True
