"""Stand-ins for a worker and for other callers, which use a real Redis."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import redis
from celery import Celery

from contract import jobs, names
from contract.columns import ResultColumns
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store import attempts, encoding, outcomes, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from tests.integration.redis_state import PATIENCE_S, subscribers
from tests.integration.sample_records import failure_of, job
from tests.processes import wait_until

#: The lease of a job that was started, which is longer than any test.
LEASE_S = 30


def begin(schema: Schema, job_id: str, token: str | None = None) -> Operation[attempts.Started]:
    """Begin an attempt like a worker."""
    return attempts.start(
        schema, job_id, token or uuid.uuid4().hex, max_attempts=4, lease_s=LEASE_S
    )


def die(store: JobStore, *job_ids: str) -> None:
    """Make dead letters, like a worker that fails with these jobs one after the other."""
    for job_id in job_ids:
        store.execute(submissions.accept(store.schema, job(job_id)))
        assert store.execute(outcomes.finish(store.schema, failure_of(job_id), dead_letter=True))


@dataclass(frozen=True)
class _OtherChannel(names.Keys):
    @property
    def done(self) -> str:
        return f"{self.namespace}:nobody-listens"


def unheard(settings: Settings) -> Schema:
    """Records whose done-messages do not reach the waiting callers."""
    schema = Schema(settings)
    schema.keys = _OtherChannel(settings.namespace)
    return schema


def play_worker(store: JobStore, outcome: jobs.Outcome) -> Callable[[], bool]:
    """Return a function that records `outcome` once a caller listens for it."""
    schema = store.schema

    def work() -> bool:
        wait_until(
            lambda: subscribers(store.client, schema.settings) > 0,
            "a caller waits for a job",
            PATIENCE_S,
        )
        store.execute(begin(schema, outcome.job_id))
        return store.execute(outcomes.finish(schema, outcome))

    return work


@contextmanager
def busy_channel(client: redis.Redis, settings: Settings) -> Iterator[None]:
    """End ten jobs of other callers each second."""
    channel, over = names.Keys(settings.namespace).done, threading.Event()

    def publish() -> None:
        while not over.wait(0.1):
            client.publish(channel, "job-of-another")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


#: What a worker with one child that has loaded its model answers.
READY = {"children": 1, "ready": 1, "model": "stub"}


@contextmanager
def answering_worker(settings: Settings, readiness: dict[str, Any] | None = None) -> Iterator[None]:
    """Run a worker that answers when Celery asks which workers there are, and scores nothing."""
    app = Celery("answering", set_as_current=False, backend="disabled://")
    app.conf.update(names.celery_options(settings))
    over = threading.Event()
    connection = app.connection_for_read()
    handlers = {"ping": lambda _: {"ok": "pong"}, "readiness": lambda _: readiness or READY}
    node = app.control.mailbox.Node("played@test", handlers=handlers, channel=connection.channel())

    def answer(timeout_s: float) -> None:
        with suppress(TimeoutError):
            connection.drain_events(timeout=timeout_s)

    def answer_all() -> None:
        while not over.is_set():
            answer(timeout_s=0.1)

    node.listen(callback=node.handle_message)
    # Kombu subscribes as it waits, and a question before that would be lost.
    answer(timeout_s=0.01)
    thread = threading.Thread(target=answer_all)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        connection.release()
        app.close()


class StandInWorker:
    """Takes the queued jobs, and records the outcome that `outcome` returns for each."""

    def __init__(
        self,
        settings: Settings,
        outcome: Callable[[jobs.Job], jobs.Outcome | ResultColumns],
        at_most: int = 1_000_000,
    ) -> None:
        self._at_most = at_most
        self.taken: list[jobs.Job] = []
        self._outcome = outcome
        self._over = threading.Event()
        self._client = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self._store = JobStore(self._client, Schema(settings))
        self._thread = threading.Thread(target=self._run)

    @property
    def queries(self) -> list[str | None]:
        """The query of each job that was taken."""
        return [job.requests[0].query_id for job in self.taken]

    def _run(self) -> None:
        while not self._over.wait(0.01):
            try:
                self._work()
            except (RedisUnavailable, redis.RedisError):
                continue  # a worker waits for its Redis

    def _work(self) -> None:
        schema = self._store.schema
        queued: Any = self._client.zrange(schema.keys.queued, 0, 0)
        if not queued or len(self.taken) == self._at_most:
            return
        job_id = queued[0].decode()
        started = self._store.execute(begin(schema, job_id))
        if started.payload is not None:
            job = encoding.decode_job(schema.settings, job_id, started.payload).job()
            outcome = self._outcome(job)
            # Before its caller sees the outcome, which may look at this list next.
            self.taken.append(job)
            try:
                self._store.execute(outcomes.finish(schema, outcome))
            except (RedisUnavailable, redis.RedisError):
                self.taken.pop()
                raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()
