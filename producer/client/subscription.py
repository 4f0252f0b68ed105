"""Share one subscription among all watches of an asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import redis.asyncio

from contract import jobs
from contract.errors import ClientUnusable, RedisUnavailable
from contract.store import outcomes
from contract.store.operation import Operation, Schema
from contract.store.redis_errors import translate
from producer.client.inbox import BatchInbox, Inbox
from producer.client.watch import POLL_S

InboxType = TypeVar("InboxType", Inbox, BatchInbox)
Outcomes: TypeAlias = dict[str, jobs.OutcomeOrError]

#: The number of outcomes read in one operation, so that parsing the replies never takes long.
READ_AT_ONCE = 20


class OutcomeSubscription:
    """Puts the outcomes of jobs into inboxes; a task reads them when jobs end."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        execute: Callable[[Operation[Outcomes]], Coroutine[Any, Any, Outcomes]],
        schema: Schema,
        check_usable: Callable[[], None],
    ) -> None:
        #: Raises `ClientUnusable` if the client is closed, or belongs to another loop or process.
        self.check_usable = check_usable
        self._redis = client
        self._execute = execute
        self._schema = schema
        #: By job id, the inboxes that wait for its outcome.
        self._inboxes: dict[str, list[Inbox]] = {}
        #: By the id of a batch, the inboxes that listen to its jobs.
        self._batch_inboxes: dict[str, list[BatchInbox]] = {}
        #: The listening task, and earlier ones that are still ending.
        self._tasks: set[asyncio.Task[None]] = set()
        #: Done when the subscription is active; None if there is none.
        self._subscribed: asyncio.Future[None] | None = None
        #: The error that ends all waits, once the client is closed.
        self._closed: ClientUnusable | None = None

    async def add(self, inbox: Inbox, job_ids: Collection[str]) -> None:
        """Put the outcomes of jobs into an inbox, including those of jobs that have already ended.

        Raises `RedisUnavailable`, or `ClientUnusable` if the client is closed. The inbox must be
        removed afterwards, even after an error.
        """
        for job_id in job_ids:
            self._inboxes.setdefault(job_id, []).append(inbox)
        await self._subscribe()
        # The jobs may have ended before the subscription was active.
        await self._read(list(job_ids))

    def remove(self, inbox: Inbox, job_ids: Collection[str]) -> None:
        """Stop putting the outcomes of jobs into an inbox."""
        for job_id in job_ids:
            _remove(self._inboxes, job_id, inbox)

    async def listen(self, inbox: BatchInbox, batch_id: str) -> None:
        """Put the ids of jobs of a batch into an inbox, from now on, as they end.

        Raises the errors of `add`. The inbox must be removed afterwards, even after an error.
        """
        self._batch_inboxes.setdefault(batch_id, []).append(inbox)
        await self._subscribe()

    def stop_listening(self, inbox: BatchInbox, batch_id: str) -> None:
        """Stop putting the ids of a batch's jobs into an inbox."""
        _remove(self._batch_inboxes, batch_id, inbox)

    async def aclose(self, error: ClientUnusable) -> None:
        """End all waits with `error`."""
        self._closed = error
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _subscribe(self) -> None:
        """Return once the subscription is active."""
        if self._closed is not None:
            raise self._closed
        subscribed = self._subscribed
        if subscribed is None:
            self._subscribed = subscribed = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._listen(subscribed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not subscribed.done():
            await asyncio.shield(subscribed)
        subscribed.result()

    async def _listen(self, subscribed: asyncio.Future[None]) -> None:
        pubsub: Any = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(self._schema.keys.done)
            subscribed.set_result(None)
            read_all_at = time.monotonic() + POLL_S
            # The flag is needed, because redis-py can lose a cancellation during its own timeout.
            while self._closed is None:
                now = time.monotonic()
                if now >= read_all_at:
                    await self._read(list(self._inboxes))
                    read_all_at = now + POLL_S
                    continue
                message = await pubsub.get_message(timeout=read_all_at - now)
                job_id = message["data"].decode(errors="replace") if message else None
                if job_id is None:
                    continue
                self._tell(job_id)
                if job_id in self._inboxes:
                    await self._read([job_id])
            raise self._closed
        # Whatever the reason for the end, all waits must end too.
        except BaseException as error:
            self._fail(error, subscribed)
            if not isinstance(error, Exception):
                raise
        finally:
            await pubsub.aclose()

    def _tell(self, job_id: str) -> None:
        """Put a job's id into the inboxes of its batch; the job may be a part of a split one."""
        batch_id = job_id
        while self._batch_inboxes and (batch_id := batch_id.rpartition(".")[0]):
            for inbox in self._batch_inboxes.get(batch_id, ()):
                inbox.put(job_id)

    async def _read(self, job_ids: list[str]) -> None:
        for start in range(0, len(job_ids), READ_AT_ONCE):
            operation = outcomes.fetch(self._schema, job_ids[start : start + READ_AT_ONCE])
            for job_id, ended in (await self._execute(operation)).items():
                for inbox in self._inboxes.get(job_id, ()):
                    inbox.put(job_id, ended)

    def _fail(self, error: BaseException, subscribed: asyncio.Future[None]) -> None:
        """End all waits with an error; the next wait subscribes again."""
        self._subscribed = None
        ours = self._translated(error)
        for inbox in set(chain(*self._inboxes.values(), *self._batch_inboxes.values())):
            inbox.fail(ours)
        if not subscribed.done():
            subscribed.set_exception(ours)
            subscribed.exception()  # marks it as retrieved, in case no caller waits for it

    def _translated(self, error: BaseException) -> Exception:
        if self._closed is not None:
            ours: Exception = self._closed
        elif isinstance(error, redis.RedisError):
            ours = translate(error, self._schema.settings)
        elif isinstance(error, Exception):
            ours = error
        else:
            ours = RedisUnavailable("the task that listens for results was cancelled; try again")
        if ours is not error and isinstance(error, Exception):
            ours.__cause__ = error
        return ours


def _remove(inboxes: dict[str, list[InboxType]], key: str, inbox: InboxType) -> None:
    others = inboxes.get(key, [])
    if inbox in others:
        others.remove(inbox)
    if not others:
        inboxes.pop(key, None)
