"""The worker's processes, as Celery has them, with our own words for a bad start."""

from __future__ import annotations

from celery.concurrency import prefork


class TaskPool(prefork.TaskPool):
    """Celery's pool, which leaves it to `worker.runtime.pool` to judge how its children start."""

    def did_start_ok(self) -> bool:
        """Return True: Celery would end with a traceback if a child has ended by now.

        A child that cannot load its models stops the worker with the reason, and one that was
        killed is replaced.
        """
        return True
