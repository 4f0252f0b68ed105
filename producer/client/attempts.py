"""Repeat what fails while Redis is unavailable, for as long as the settings allow."""

from __future__ import annotations

import time

from contract.errors import NotReplicated, RedisUnavailable
from contract.settings import Settings

#: The pause between two attempts. A failover takes seconds.
PAUSE_S = 0.25


class Attempts:
    """The attempts at one step of a client."""

    def __init__(self, settings: Settings) -> None:
        self._limit_s = settings.redis_retry_s
        self._ends_at: float | None = None

    def pause_after(self, error: RedisUnavailable) -> float:
        """Return the seconds until the next attempt. Raises the error if there is none."""
        if not self._limit_s or not error.retryable or isinstance(error, NotReplicated):
            raise error
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + self._limit_s
        if now >= self._ends_at:
            raise error
        return min(PAUSE_S, self._ends_at - now)
