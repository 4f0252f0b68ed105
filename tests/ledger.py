"""A ledger of the jobs that a test submits: each has exactly one outcome, and nothing is left over.

Tests of faults state their expectations on the ledger, and not on the text of logs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest
import redis
from celery import Celery

from contract import errors, jobs, names
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store import dead_letters, outcomes
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client import preparing
from producer.client.blocking import RerankClient
from tests.documents import QUERY, SHORT
from tests.processes import PATIENCE_S, wait_until

#: The codes of failures whose jobs are kept as dead letters.
KEPT = {kind.code for kind in vars(errors).values() if getattr(kind, "dead_letter", False) is True}


class Ledger:
    """The jobs that were submitted to one service, and their outcomes."""

    def __init__(self, settings: Settings) -> None:
        self.client = RerankClient(settings)
        self.submitted: list[str] = []
        connection = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self._store = JobStore(connection, Schema(settings))
        self._ended_before = self._totals()

    @property
    def store(self) -> JobStore:
        """A Redis client, to look behind the rerank client."""
        return self._store

    def submit(
        self,
        documents: Iterable[preparing.Document] = SHORT,
        *,
        job_id: str | None = None,
        allow_downgrade: bool = True,
    ) -> str:
        """Submit a job, and remember it if it was accepted."""
        request = preparing.request(QUERY, documents, top_k=None)
        job = preparing.job([request], self.client.settings, job_id=job_id)
        job = job.model_copy(update={"allow_downgrade": allow_downgrade})
        job_id = self.client.submit_job(job)
        self.submitted.append(job_id)
        return job_id

    def known(self, job_id: str) -> bool:
        """Return whether there is any record of the job."""
        return bool(self._store.client.exists(self._store.schema.keys.job(job_id)))

    def attempts(self, job_id: str) -> int:
        """Return how often a worker started the job."""
        return self.client.status(job_id).attempts

    def holder(self, job_id: str) -> tuple[str, int] | None:
        """Return the worker and the process that are running the job, if there are any."""
        token: Any = self._store.client.hget(self._store.schema.keys.job(job_id), "open")
        if token is None:
            return None
        worker, pid, _ = token.decode().rsplit(":", 2)
        return worker.split("@")[-1], int(pid)

    def under_way(self, job_id: str, attempt: int = 1) -> tuple[str, int]:
        """Wait for an attempt; return the worker and the process that are making it."""
        found: list[tuple[str, int]] = []

        def begun() -> bool:
            status, holder = self.client.status(job_id), self.holder(job_id)
            assert status.ended_at is None, f"ended too early: {self.outcomes()[job_id]}"
            if holder is None or status.attempts < attempt:
                return False
            found.append(holder)
            return True

        wait_until(begun, f"attempt {attempt} at {job_id}")
        return found[0]

    def result(self, job_id: str, within_s: float = PATIENCE_S) -> jobs.JobResult:
        """Return the job's result; raises `JobFailed`."""
        return self.client.result(job_id, within_s)

    def failure(self, job_id: str, within_s: float = PATIENCE_S) -> jobs.Failure:
        """Return the job's failure."""
        with pytest.raises(errors.JobFailed) as failed:
            self.client.result(job_id, within_s)
        return failed.value.failure

    def outcomes(self) -> dict[str, jobs.OutcomeOrError]:
        """Return the results of all jobs that have one."""
        return self._store.execute(outcomes.fetch(self._store.schema, self.submitted))

    @contextmanager
    def events(self) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """Return a function that returns everything that Flower would have heard since."""
        namespace = self.client.settings.namespace
        heard: list[dict[str, Any]] = []
        with self._store.client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            pubsub.psubscribe(f"*{namespace}.events*")
            pubsub.get_message(timeout=10)  # the confirmation of the subscription

            def so_far() -> list[dict[str, Any]]:
                while (message := pubsub.get_message(timeout=0.2)) is not None:
                    envelope = json.loads(message["data"])
                    body = json.loads(base64.b64decode(envelope["body"]))
                    heard.extend(body if isinstance(body, list) else [body])
                return heard

            yield so_far

    def dead_letters(self) -> set[str]:
        """Return the dead letters of our jobs."""
        letters = dead_letters.fetch(self._store.schema, self.submitted)
        return {letter.job_id for letter in self._store.execute(letters)}

    def redeliver(self) -> None:
        """Restore messages like a consumer whose visibility timeout is a fifth of a second."""
        app = Celery(set_as_current=False, backend="disabled://")
        app.conf.update(names.celery_options(self.client.settings))
        app.conf.broker_transport_options |= {"visibility_timeout": 0.2}
        with app.connection_for_write() as connection:
            connection.default_channel.qos.restore_visible()
        app.close()

    def balance(self, within_s: float = PATIENCE_S) -> None:
        """Wait until each job has an outcome and no message is left, then check the books.

        While Redis is away, wait until it is back.
        """
        wait_until(false_while_redis_is_away(self._all_ended), "all jobs have ended", within_s)
        try:
            wait_until(false_while_redis_is_away(self._nothing_left), "nothing is left", within_s)
        except AssertionError as error:
            error.add_note(f"left: {self.left()}")
            raise
        outcomes = self.outcomes()
        results = {key for key, each in outcomes.items() if isinstance(each, jobs.JobResult)}
        failures = {key: each for key, each in outcomes.items() if isinstance(each, jobs.Failure)}
        # Each accepted job has one outcome, which is a result or a failure ...
        assert results | set(failures) == set(self.submitted)
        # ... which was stored once ...
        assert self._totals() - self._ended_before == len(set(self.submitted))
        # ... by the job's last attempt.
        for job_id, outcome in outcomes.items():
            made = outcome.provenance if isinstance(outcome, jobs.JobResult) else outcome
            assert isinstance(made, jobs.Provenance | jobs.Failure)
            assert self.attempts(job_id) == made.attempts
        assert self.dead_letters() == {key for key, each in failures.items() if each.code in KEPT}

    def left(self) -> dict[str, int]:
        """Return all messages, and all jobs that are running."""
        keys, client = self._store.schema.keys, self._store.client
        counts: dict[str, Any] = {
            "on the queue": sum(client.llen(name) for name in keys.queue_lists),
            "held by workers": client.hlen(keys.unacked),
            "held, in the index": client.zcard(f"{keys.unacked}:index"),
            "jobs queued": client.zcard(keys.queued),
            "jobs running": client.zcard(keys.running),
            "leases": sum(client.exists(keys.lease(job_id)) for job_id in self.submitted),
        }
        return {what: int(number) for what, number in counts.items() if number}

    def _all_ended(self) -> bool:
        return len(self.outcomes()) == len(set(self.submitted))

    def _nothing_left(self) -> bool:
        return not self.left()

    def _totals(self) -> int:
        totals: Any = self._store.client.hvals(self._store.schema.keys.totals)
        return sum(map(int, totals))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._store.client.close()


def false_while_redis_is_away(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Return whether the condition holds; it does not while Redis is away."""

    def holds() -> bool:
        try:
            return condition()
        except (RedisUnavailable, redis.RedisError):
            return False

    return holds
