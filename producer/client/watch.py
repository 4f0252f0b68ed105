"""Wait for several jobs at once with the blocking client, on one subscription."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Any, Generic, Self, TypeVar

import redis

from contract import jobs
from contract.errors import RedisUnavailable, ResultTimeout
from contract.store import outcomes
from contract.store.blocking import JobStore
from contract.store.operation import Operation
from contract.store.redis_errors import translate
from producer.client.arguments import check_timeout
from producer.client.attempts import Attempts

T = TypeVar("T")

#: The interval at which outcomes are also read directly, because publish/subscribe may lose
#: messages.
POLL_S = 2.0
#: The maximum number of notifications that are taken together.
HEARD_AT_ONCE = 1000


class DoneChannel:
    """A subscription to the ids of jobs, published as they end. Use it in one thread only."""

    def __init__(self, client: redis.Redis, store: JobStore) -> None:
        self._store = store
        self._pubsub: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]

    def _next_done(self, timeout_s: float) -> str | None:
        """Return the id of the next job that has ended, or None, after at most `timeout_s` seconds.

        Raises `RedisUnavailable`, or `ClientUnusable` if the client is closed.
        """
        try:
            message = self._pubsub.get_message(timeout=timeout_s)
        except redis.RedisError as error:
            raise self._unavailable(error) from error
        self._store.check_open()
        return message["data"].decode(errors="replace") if message else None

    def _unavailable(self, error: redis.RedisError) -> RedisUnavailable:
        return translate(error, self._store.schema.settings)

    def __enter__(self) -> Self:
        attempts = Attempts(self._store.schema.settings)
        while True:
            self._store.check_open()
            try:
                self._pubsub.subscribe(self._store.schema.keys.done)
            except redis.RedisError as error:
                unavailable = self._unavailable(error)
                unavailable.__cause__ = error
                time.sleep(attempts.pause_after(unavailable))
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._pubsub.close()


class BatchWatch(DoneChannel):
    """A watch that listens to the jobs of a batch."""

    def __init__(self, client: redis.Redis, store: JobStore, batch_id: str) -> None:
        super().__init__(client, store)
        self._prefix = f"{batch_id}."

    def heard(self, timeout_s: float) -> list[str]:
        """Return the ids of jobs of the batch, and of their parts, as soon as one has ended.

        The result is empty after `timeout_s` seconds. Raises `RedisUnavailable`.
        """
        found: list[str] = []
        deadline = time.monotonic() + timeout_s
        messages = 0
        while True:
            left_s = deadline - time.monotonic()
            # After the first, only those that have arrived already are taken.
            job_id = self._next_done(0.0 if found else max(0.0, left_s))
            if job_id is not None and job_id.startswith(self._prefix):
                found.append(job_id)
            messages += bool(found)
            if left_s <= 0.0 or messages == HEARD_AT_ONCE or (found and job_id is None):
                return found


class OutcomeWatch(DoneChannel, ABC, Generic[T]):
    """Waits for jobs to end. Use it in one thread only.

    It subscribes, reads the outcomes once, and then polls slowly in case a notification is lost.
    """

    def __init__(self, client: redis.Redis, store: JobStore) -> None:
        super().__init__(client, store)
        self._read_once: set[str] = set()

    def any_of(self, job_ids: Collection[str], timeout: float | None) -> dict[str, T]:
        """Return the outcomes of the jobs in `job_ids` that have ended, as soon as there is one.

        The result is empty after `timeout` seconds (None: no limit). Raises `RedisUnavailable`.
        """
        deadline = deadline_after(timeout)
        ask = [job_id for job_id in job_ids if job_id not in self._read_once]
        read_all_at = time.monotonic() + POLL_S
        while not (found := self._read(ask)):
            now = time.monotonic()
            if now >= deadline:
                return {}
            if now >= read_all_at:
                ask, read_all_at = list(job_ids), now + POLL_S
                continue
            ended = self._next_done(min(read_all_at, deadline) - now)
            ask = [ended] if ended is not None and ended in job_ids else []
        return found

    def as_completed(
        self, job_ids: Collection[str], timeout: float | None = None
    ) -> Iterator[tuple[str, T]]:
        """Yield the id and the outcome of each job, in the order in which they end.

        Raises `ResultTimeout` if some have not ended after `timeout` seconds (None: no limit), or
        `RedisUnavailable`.
        """
        deadline = deadline_after(timeout)
        waiting = set(job_ids)
        while waiting:
            found = self.any_of(waiting, seconds_until(deadline))
            if not found:
                raise not_all_ended(waiting, job_ids, timeout)
            waiting -= found.keys()
            yield from found.items()

    def _read(self, job_ids: list[str]) -> dict[str, T]:
        if not job_ids:
            return {}
        found = self._store.execute(self._fetch(job_ids))
        self._read_once.update(job_ids)
        self._read_once.difference_update(found)
        return found

    @abstractmethod
    def _fetch(self, job_ids: Collection[str]) -> Operation[dict[str, T]]:
        """Read the outcomes of the jobs that have ended."""


class Watch(OutcomeWatch[jobs.OutcomeOrError]):
    """A watch that returns records."""

    def _fetch(self, job_ids: Collection[str]) -> Operation[dict[str, jobs.OutcomeOrError]]:
        return outcomes.fetch(self._store.schema, list(job_ids))


def deadline_after(timeout_s: float | None) -> float:
    """Return the end of a timeout that starts now, by the monotonic clock; None is no limit.

    Raises `InvalidInput` if the timeout is neither a number nor None.
    """
    check_timeout(timeout_s)
    return math.inf if timeout_s is None else time.monotonic() + timeout_s


def seconds_until(deadline: float) -> float | None:
    """Return the seconds until a deadline; None if there is none."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


def not_all_ended(
    waiting: Collection[str], job_ids: Collection[str], timeout_s: float | None
) -> ResultTimeout:
    """Return the error for a wait in which some jobs have not ended in time."""
    return ResultTimeout(
        f"{len(waiting):,} of {len(set(job_ids)):,} jobs have not ended after {timeout_s:g} s"
    )
