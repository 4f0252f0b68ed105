"""Wait for Redis, for workers and for progress: for a limited time, with reports of the reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from contract.errors import NoWorker, RedisUnavailable
from producer.client.blocking import RerankClient

T = TypeVar("T")

#: Seconds between two attempts.
RETRY_INTERVAL_S = 1.0
#: Seconds between two reports about one wait.
REPORT_INTERVAL_S = 10.0


class Deadline:
    """Expires `timeout_s` seconds after its start, or after the last `restart`."""

    def __init__(self, timeout_s: float, report: Callable[[str], object]) -> None:
        self.timeout_s = timeout_s
        self._report = report
        self._began = time.monotonic()
        self._reported_at: float | None = None

    @property
    def elapsed_s(self) -> float:
        """The seconds since the start, or since the last `restart`."""
        return time.monotonic() - self._began

    @property
    def remaining_s(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self.timeout_s - self.elapsed_s)

    @property
    def expired(self) -> bool:
        """Return whether no time is left."""
        return self.remaining_s == 0.0

    def explain(self, why: str) -> None:
        """Report why the wait continues, at most once in `REPORT_INTERVAL_S` seconds."""
        now = time.monotonic()
        if self._reported_at is None or now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            self._report(f"waiting ({self.elapsed_s:.0f} s of at most {self.timeout_s:g} s): {why}")

    def restart(self) -> None:
        """Start again from zero, because there was progress."""
        self._began = time.monotonic()


class RetryWhileUnavailable:
    """Repeats a call that raises `RedisUnavailable`, for up to `timeout_s` seconds."""

    def __init__(self, timeout_s: float, report: Callable[[str], object]) -> None:
        self._timeout_s = timeout_s
        self._report = report

    def __call__(self, call: Callable[[], T]) -> T:
        """Return the result of `call`, or raise its error: `RedisUnavailable` only at the end."""
        deadline: Deadline | None = None
        while True:
            try:
                return call()
            except RedisUnavailable as error:
                deadline = deadline or Deadline(self._timeout_s, self._report)
                if deadline.expired:
                    raise
                deadline.explain(str(error))
            pause()


def require_worker(
    client: RerankClient, timeout_s: float, report: Callable[[str], object] = lambda _: None
) -> int:
    """Return the number of processes of the first worker that answers.

    Raises `NoWorker` if none answers within `timeout_s` seconds, or `RedisUnavailable`. With
    Sentinel, it waits that long for a primary too.
    """
    deadline = Deadline(timeout_s, report)
    location = client.settings.redis_location
    while True:
        try:
            if answers := client.readiness(timeout_s=1.0, at_most=1):
                return sum(each.children for each in answers.values())
        except RedisUnavailable as error:
            # A failover takes seconds; a server that does not answer at all is an error at once.
            if client.settings.redis_sentinel is None or not error.retryable or deadline.expired:
                raise
            deadline.explain(str(error))
            pause()
            continue
        if deadline.expired:
            raise NoWorker(
                f"no worker answers on {location}; start one with `rerankq worker`, or"
                " check that it has the same RERANKQ_REDIS_URL and RERANKQ_NAMESPACE"
            )
        deadline.explain(f"no worker answers on {location}")


def pause() -> None:
    """Sleep until the next attempt is due."""
    time.sleep(RETRY_INTERVAL_S)
