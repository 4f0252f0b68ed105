"""Receive what one watch of an asyncio client waits for."""

from __future__ import annotations

import asyncio
import math
import time

from contract import jobs


class Mailbox:
    """A place where one task waits for news.

    It has few objects, because the garbage collector would otherwise pause the event loop during
    a thousand waits.
    """

    __slots__ = ("_news", "error")

    def __init__(self) -> None:
        #: The reason why no more news arrive, if there is one.
        self.error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def fail(self, error: Exception) -> None:
        """Record that no more news arrive."""
        self.error = error
        self.wake()

    async def wait(self, deadline: float) -> None:
        """Wait for news or an error, until the deadline by the monotonic clock."""
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        timer = None
        if deadline != math.inf:
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), self.wake)
        try:
            await self._news
        finally:
            self._news = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """End the wait."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Inbox(Mailbox):
    """The outcomes of some jobs."""

    __slots__ = ("outcomes",)

    def __init__(self) -> None:
        super().__init__()
        #: The outcome of each job, by id; None until it has ended.
        self.outcomes: dict[str, jobs.OutcomeOrError | None] = {}

    def put(self, job_id: str, ended: jobs.OutcomeOrError) -> None:
        """Add the outcome of a job, which may arrive more than once."""
        if job_id in self.outcomes:
            self.outcomes[job_id] = ended
            self.wake()


class BatchInbox(Mailbox):
    """The ids of jobs of a batch that have ended, without their outcomes, which may be many."""

    __slots__ = ("job_ids",)

    def __init__(self) -> None:
        super().__init__()
        self.job_ids: list[str] = []

    def put(self, job_id: str) -> None:
        """Add the id of a job, or of a part of it."""
        self.job_ids.append(job_id)
        self.wake()
