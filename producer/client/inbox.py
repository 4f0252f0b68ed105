"""Receive the outcomes that one watch of an asyncio client waits for."""

from __future__ import annotations

import asyncio
import math
import time

from contract import jobs


class Inbox:
    """Outcomes of the jobs that one task waits for.

    It has few objects, because the garbage collector would otherwise pause the event loop during
    a thousand waits.
    """

    __slots__ = ("_news", "error", "outcomes")

    def __init__(self) -> None:
        #: The outcome of each job, by id; None until it has ended.
        self.outcomes: dict[str, jobs.OutcomeOrError | None] = {}
        #: The reason why no more outcomes arrive, if there is one.
        self.error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def put(self, job_id: str, ended: jobs.OutcomeOrError) -> None:
        """Add the outcome of a job, which may arrive more than once."""
        if job_id in self.outcomes:
            self.outcomes[job_id] = ended
            self._wake()

    def fail(self, error: Exception) -> None:
        """Record that no more outcomes arrive."""
        self.error = error
        self._wake()

    async def wait(self, deadline: float) -> None:
        """Wait for an outcome or an error, until the deadline by the monotonic clock."""
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        timer = None
        if deadline != math.inf:
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._wake)
        try:
            await self._news
        finally:
            self._news = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
