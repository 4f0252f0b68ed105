"""Waits, within bounds, for a Redis that is started anew, and for workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from contract.errors import NoWorker, RedisUnavailable
from producer.client import RerankClient

T = TypeVar("T")

#: Between two attempts.
PAUSE_S = 1.0


class Patience:
    """Makes a call again, for up to `wait_s` seconds, while Redis does not answer."""

    def __init__(self, wait_s: float, say: Callable[[str], object]) -> None:
        self._wait_s = wait_s
        self._say = say

    def __call__(self, call: Callable[[], T]) -> T:
        """What `call` gives. Raises `RedisUnavailable` in the end, and whatever else it raises."""
        try:
            return call()
        except RedisUnavailable:
            give_up_at = time.monotonic() + self._wait_s
            self._say(f"Redis does not answer: waiting up to {self._wait_s:g} s")
        while True:
            pause()
            try:
                return call()
            except RedisUnavailable:
                if time.monotonic() >= give_up_at:
                    raise


def require_worker(client: RerankClient, wait_s: float) -> None:
    """Raise `NoWorker` unless a worker answers within `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while not client.workers(timeout_s=1.0, at_most=1):
        if time.monotonic() >= deadline:
            raise NoWorker(
                f"no worker answers on {client.settings.redis_location}: start one with"
                " `celery -A worker worker`, or check its RERANKQ_REDIS_URL and"
                " RERANKQ_NAMESPACE"
            )


def pause() -> None:
    """Let a while pass before the next attempt."""
    time.sleep(PAUSE_S)
