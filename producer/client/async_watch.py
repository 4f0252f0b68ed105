"""Waits of the asyncio client: several jobs at once, on the client's one subscription."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Self

from contract import jobs
from producer.client.subscription import OutcomeSubscription
from producer.client.watch import not_all_ended


class AsyncWatch:
    """Waits for jobs to end, on the subscription of its client. Belongs to one task."""

    def __init__(self, subscription: OutcomeSubscription, check_usable: Callable[[], None]) -> None:
        self._subscription = subscription
        self._check_usable = check_usable
        #: By job that the subscription tells about: its outcome, None while it has none.
        self._outcomes: dict[str, jobs.OutcomeOrError | None] = {}
        #: What the task waits for: that an outcome comes, that none does any more, or the timeout.
        self._news: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    async def any_of(
        self,
        job_ids: Collection[str],
        timeout: float | None,  # noqa: ASYNC109
    ) -> dict[str, jobs.OutcomeOrError]:
        """Return the outcomes of those of `job_ids` that have ended, as soon as there is one.

        Empty after `timeout` seconds (None: never). Raises `RedisUnavailable`, or `ClientUnusable`
        if the client is closed meanwhile.
        """
        self._check_usable()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if self._error is not None:  # its subscription has ended: begin another one
            self._forget(list(self._outcomes))
            self._error = None
        await self._add([job_id for job_id in job_ids if job_id not in self._outcomes])
        while not (found := self._ended(job_ids)):
            if self._error is not None:
                raise self._error
            if time.monotonic() >= deadline:
                return {}
            await self._await_news(deadline)
        self._forget(found)
        return found

    async def as_completed(
        self,
        job_ids: Collection[str],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[tuple[str, jobs.OutcomeOrError]]:
        """Yield the id and the outcome of each job, in the order in which they end.

        Raises `ResultTimeout` if some have not ended after `timeout` seconds (None: never),
        `RedisUnavailable`, or `ClientUnusable` if the client is closed meanwhile.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        waiting = set(job_ids)
        while waiting:
            left = None if timeout is None else max(0.0, deadline - time.monotonic())
            found = await self.any_of(waiting, left)
            if not found:
                raise not_all_ended(waiting, job_ids, timeout)
            waiting -= found.keys()
            for each in found.items():
                yield each

    def receive(self, job_id: str, ended: jobs.OutcomeOrError) -> None:
        """Take in the outcome of a job, as a listener of the subscription."""
        if job_id in self._outcomes:
            self._outcomes[job_id] = ended
            self._wake()

    def fail(self, error: Exception) -> None:
        """Take in that the subscription has ended; the next wait begins another one."""
        self._error = error
        self._wake()

    async def _add(self, job_ids: Collection[str]) -> None:
        if not job_ids:
            return
        self._outcomes.update(dict.fromkeys(job_ids))
        try:
            await self._subscription.add(self, job_ids)
        except BaseException:
            self._forget(job_ids)
            raise

    def _ended(self, job_ids: Collection[str]) -> dict[str, jobs.OutcomeOrError]:
        outcomes = ((job_id, self._outcomes.get(job_id)) for job_id in job_ids)
        return {job_id: ended for job_id, ended in outcomes if ended is not None}

    async def _await_news(self, deadline: float) -> None:
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

    def _forget(self, job_ids: Collection[str]) -> None:
        self._subscription.remove(self, job_ids)
        for job_id in job_ids:
            self._outcomes.pop(job_id, None)

    def close(self) -> None:
        """Forget all jobs."""
        self._forget(list(self._outcomes))

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
