"""Calls of the worker's task without a queue, as a child makes them when it takes a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from contract import names
from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from tests.integration.sample_records import job
from worker.jobs import tasks
from worker.jobs.attempt import Attempt
from worker.runtime.app import create_app
from worker.runtime.settings import WorkerSettings

LEASE_S = 30

#: A model that no machine has memory for, and its downgrade model.
HUNGRY, SMALLER = "stub:bytes_per_token=1e15", "stub:scale=2"


class Delivery:
    """Runs the task like a child that has taken a message."""

    def __init__(self, settings: Settings, model: str = "stub", **more: Any) -> None:
        self.app = create_app(
            WorkerSettings.load(
                redis_url=settings.redis_url.get_secret_value(),
                namespace=settings.namespace,
                cross_encoder_model=model,
                downgrade_model=SMALLER,
                lease_s=LEASE_S,
                **more,
            )
        )
        self._task = tasks.register(self.app)

    def run(self, job_id: str) -> Any:
        """Run the task; return its result or raise its exception."""
        with self._message(job_id):
            return self._task.run(job_id)

    @contextmanager
    def attempt(self, job_id: str) -> Iterator[Attempt]:
        """Start an attempt without running it."""
        with self._message(job_id):
            yield Attempt(self._task, job_id)

    @contextmanager
    def _message(self, job_id: str) -> Iterator[None]:
        self._task.push_request(
            id=job_id, args=(job_id,), kwargs={}, hostname="worker@here", called_directly=False
        )
        try:
            yield
        finally:
            self._task.pop_request()


def accept(store: JobStore, job_id: str = "j") -> None:
    store.execute(submissions.accept(store.schema, job(job_id)))


def headers(client: redis.Redis, settings: Settings) -> list[dict[str, Any]]:
    """Return the messages on the queue."""
    lists = names.Keys(settings.namespace).queue_lists
    found: list[Any] = [raw for name in lists for raw in client.lrange(name, 0, -1)]
    return [json.loads(raw)["headers"] for raw in found]
