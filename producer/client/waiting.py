"""Waits of the command line. Each of them has a bound, and says why it goes on while it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from contract.errors import NoWorker, RedisUnavailable
from producer.client.blocking import RerankClient

T = TypeVar("T")

#: Between two attempts.
PAUSE_S = 1.0
#: Between two lines about one wait.
SAY_EVERY_S = 10.0


class Wait:
    """A wait of at most `at_most_s` seconds since its start, or since the last `restart`."""

    def __init__(self, at_most_s: float, say: Callable[[str], object]) -> None:
        self.at_most_s = at_most_s
        self._say = say
        self._began = time.monotonic()
        self._said_at: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds that it has lasted."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Seconds that it may still last, at least 0."""
        return max(0.0, self.at_most_s - self.elapsed_s)

    @property
    def is_over(self) -> bool:
        """Whether the bound is reached."""
        return self.left_s == 0.0

    def explain(self, why: str) -> None:
        """Say why it goes on, unless that was said within the last `SAY_EVERY_S` seconds."""
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            self._say(f"waiting ({self.elapsed_s:.0f} s of at most {self.at_most_s:g} s): {why}")

    def restart(self) -> None:
        """Begin anew, because there was progress."""
        self._began = time.monotonic()


class Patience:
    """Repeats a call for up to `wait_s` seconds while Redis does not answer, or refuses."""

    def __init__(self, wait_s: float, say: Callable[[str], object]) -> None:
        self._wait_s = wait_s
        self._say = say

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. Raises `RedisUnavailable` in the end, and what it raises."""
        wait: Wait | None = None
        while True:
            try:
                return call()
            except RedisUnavailable as error:
                wait = wait or Wait(self._wait_s, self._say)
                if wait.is_over:
                    raise
                wait.explain(str(error))
            pause()


def require_worker(
    client: RerankClient, wait_s: float, say: Callable[[str], object] = lambda _: None
) -> None:
    """Raise `NoWorker` unless a worker answers within `wait_s` seconds."""
    wait = Wait(wait_s, say)
    location = client.settings.redis_location
    while not client.workers(timeout_s=1.0, at_most=1):
        if wait.is_over:
            raise NoWorker(
                f"no worker answers on {location}: start one with `celery -A worker worker`, or"
                " check its RERANKQ_REDIS_URL and RERANKQ_NAMESPACE"
            )
        wait.explain(f"no worker answers on {location}")


def pause() -> None:
    """Let a while pass before the next attempt."""
    time.sleep(PAUSE_S)
