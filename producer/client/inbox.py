"""Where the subscription of an asyncio client puts what one watch waits for."""

from __future__ import annotations

import asyncio
import math
import time

from contract import jobs


class Inbox:
    """Outcomes of the jobs that one task waits for.

    Kept small: a thousand waits are not to weigh on the garbage collector, whose pauses are the
    event loop's.
    """

    __slots__ = ("_news", "error", "outcomes")

    def __init__(self) -> None:
        #: By job: its outcome, None while it has none.
        self.outcomes: dict[str, jobs.OutcomeOrError | None] = {}
        #: Why no more come, if so.
        self.error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def put(self, job_id: str, ended: jobs.OutcomeOrError) -> None:
        """Take in the outcome of a job; it may come more than once."""
        if job_id in self.outcomes:
            self.outcomes[job_id] = ended
            self._wake()

    def fail(self, error: Exception) -> None:
        """Take in that no outcomes come any more."""
        self.error = error
        self._wake()

    async def wait(self, deadline: float) -> None:
        """Return when something was taken in, or at the deadline, by the monotonic clock."""
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
