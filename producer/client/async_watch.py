"""Wait for several jobs at once with the asyncio client, on its single subscription."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from typing import Self

from contract import jobs
from contract.errors import RedisUnavailable
from contract.settings import Settings
from producer.client.attempts import Attempts
from producer.client.inbox import BatchInbox, Inbox
from producer.client.subscription import OutcomeSubscription
from producer.client.watch import deadline_after, not_all_ended, seconds_until


class AsyncWatch:
    """Waits for jobs to end, on the subscription of its client. Use it in one task only."""

    __slots__ = ("_inbox", "_subscription")

    def __init__(self, subscription: OutcomeSubscription) -> None:
        self._subscription = subscription
        self._inbox = Inbox()

    async def any_of(
        self,
        job_ids: Collection[str],
        timeout: float | None,  # noqa: ASYNC109
    ) -> dict[str, jobs.OutcomeOrError]:
        """Return the outcomes of the jobs in `job_ids` that have ended, as soon as there is one.

        The result is empty after `timeout` seconds (None: no limit). Raises `RedisUnavailable`,
        or `ClientUnusable` if the client is closed during the wait.
        """
        self._subscription.check_usable()
        deadline = deadline_after(timeout)
        if self._inbox.error is not None:  # its subscription has ended: start a new one
            self._forget(list(self._inbox.outcomes))
            self._inbox.error = None
        await self._add([job_id for job_id in job_ids if job_id not in self._inbox.outcomes])
        while not (found := self._ended(job_ids)):
            if self._inbox.error is not None:
                raise self._inbox.error
            if time.monotonic() >= deadline:
                return {}
            await self._inbox.wait(deadline)
        self._forget(found)
        return found

    async def as_completed(
        self,
        job_ids: Collection[str],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[tuple[str, jobs.OutcomeOrError]]:
        """Yield the id and the outcome of each job, in the order in which they end.

        Raises `ResultTimeout` if some have not ended after `timeout` seconds (None: no limit),
        `RedisUnavailable`, or `ClientUnusable` if the client is closed during the wait.
        """
        deadline = deadline_after(timeout)
        waiting = set(job_ids)
        while waiting:
            found = await self.any_of(waiting, seconds_until(deadline))
            if not found:
                raise not_all_ended(waiting, job_ids, timeout)
            waiting -= found.keys()
            for each in found.items():
                yield each

    async def _add(self, job_ids: Collection[str]) -> None:
        if not job_ids:
            return
        self._inbox.outcomes.update(dict.fromkeys(job_ids))
        try:
            await self._subscription.add(self._inbox, job_ids)
        except BaseException:
            self._forget(job_ids)
            raise

    def _ended(self, job_ids: Collection[str]) -> dict[str, jobs.OutcomeOrError]:
        outcomes = ((job_id, self._inbox.outcomes.get(job_id)) for job_id in job_ids)
        return {job_id: ended for job_id, ended in outcomes if ended is not None}

    def _forget(self, job_ids: Collection[str]) -> None:
        self._subscription.remove(self._inbox, job_ids)
        for job_id in job_ids:
            self._inbox.outcomes.pop(job_id, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._forget(list(self._inbox.outcomes))


class AsyncBatchWatch:
    """Listens to a batch's jobs, on the subscription of its client. Use it in one task only."""

    __slots__ = ("_batch_id", "_inbox", "_settings", "_subscription")

    def __init__(
        self, subscription: OutcomeSubscription, batch_id: str, settings: Settings
    ) -> None:
        self._subscription = subscription
        self._batch_id = batch_id
        self._settings = settings
        self._inbox = BatchInbox()

    async def heard(self, timeout_s: float) -> list[str]:
        """Return the ids of jobs of the batch, and of their parts, as soon as one has ended.

        The result is empty after `timeout_s` seconds. Raises `RedisUnavailable`, or
        `ClientUnusable` if the client is closed.
        """
        inbox = self._inbox
        if inbox.error is not None:  # its subscription has ended: start a new one
            await self._listen()
        if not inbox.job_ids:
            await inbox.wait(deadline_after(timeout_s))
        if inbox.error is not None:
            raise inbox.error
        found, inbox.job_ids = inbox.job_ids, []
        return found

    async def _listen(self) -> None:
        self._subscription.check_usable()
        self._subscription.stop_listening(self._inbox, self._batch_id)
        self._inbox.error = None
        await self._subscription.listen(self._inbox, self._batch_id)

    async def __aenter__(self) -> Self:
        attempts = Attempts(self._settings)
        try:
            while True:
                try:
                    await self._listen()
                except RedisUnavailable as error:
                    await asyncio.sleep(attempts.pause_after(error))
                else:
                    return self
        except BaseException:
            self._subscription.stop_listening(self._inbox, self._batch_id)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._subscription.stop_listening(self._inbox, self._batch_id)
