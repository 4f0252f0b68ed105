"""The worker's processes, as Celery has them, with our own words for a bad start."""

from __future__ import annotations

from collections.abc import Callable

from celery.concurrency import asynpool, prefork

#: Between two looks at which children have ended. Celery takes five seconds; it is told of most
#: deaths at once, but not of one that is complete only after it was told.
CHILD_CHECK_S = 1.0


class AsynPool(asynpool.AsynPool):
    """Celery's children, whose deaths are noticed within a second."""

    @property
    def timers(self) -> dict[Callable[[], object], float]:
        """What the event loop calls again and again, and after how many seconds."""
        return {self.maintain_pool: CHILD_CHECK_S}


class TaskPool(prefork.TaskPool):
    """Celery's pool, which leaves it to `worker.runtime.pool` to judge how its children start."""

    Pool = AsynPool

    def did_start_ok(self) -> bool:
        """Return True: Celery would end with a traceback if a child has ended by now.

        A child that cannot load its model stops the worker with the reason, and one that was
        killed is replaced.
        """
        return True
