"""The Celery app of a worker, through which its parts access a shared context."""

from __future__ import annotations

from typing import Any

from celery import Celery

from worker.runtime.celery_options import celery_options
from worker.runtime.context import WorkerContext
from worker.runtime.settings import WorkerSettings


class WorkerApp(Celery):
    """A Celery app with a `WorkerContext`.

    It is available as `self.app` in a task, `request.app` in a request, `consumer.app` in a step
    of the consumer, and `state.app` in a remote control command. A signal handler gets it from the
    worker that sends the signal.
    """

    amqp_cls = "worker.runtime.broker:AMQP"

    def __init__(self, context: WorkerContext) -> None:
        super().__init__("rerankq.worker")
        self.context = context
        self.conf.update(celery_options(context.settings))
        self.on_after_finalize.connect(_unregister_tasks_of_celery)


def create_app(settings: WorkerSettings) -> WorkerApp:
    """Return the app of a worker with these settings."""
    return WorkerApp(WorkerContext(settings))


def _unregister_tasks_of_celery(sender: Celery, **_: Any) -> None:
    """Remove Celery's own tasks: `celery.map` and others can run ours without its checks."""
    for name in [name for name in sender.tasks if name.startswith("celery.")]:
        sender.tasks.unregister(name)
