"""All waits of an asyncio client, behind one subscription."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import redis.asyncio

from contract import jobs
from contract.errors import ClientUnusable, RedisUnavailable
from contract.store import outcomes
from contract.store.operation import Operation
from contract.store.redis_errors import translate
from contract.store.schema import Schema
from producer.client.watch import POLL_S

T = TypeVar("T")

#: Outcomes read in one operation, so that the replies are never long to take apart.
READ_AT_ONCE = 20


class Waits:
    """All that wait for outcomes, by job id, behind one subscription that a task listens to."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        do: Callable[[Operation[Any]], Any],
        schema: Schema,
    ) -> None:
        self._redis = client
        self._do = do
        self._schema = schema
        #: Those who wait, by job. Kept small: a thousand waits are not to weigh on the collector,
        #: whose pauses are the event loop's.
        self._futures: dict[str, list[asyncio.Future[jobs.OutcomeOrError | None]]] = {}
        #: The task that listens, and former ones that have not quite ended.
        self._listeners: set[asyncio.Task[None]] = set()
        #: Done when the subscription stands; None if there is none.
        self._subscribed: asyncio.Future[None] | None = None
        #: What ends the waits, once the client is closed.
        self._closed: ClientUnusable | None = None

    async def outcome(self, job_id: str, timeout_s: float | None) -> jobs.OutcomeOrError | None:
        """Wait for the job to end; None if it has not in time.

        Raises `RedisUnavailable`, or `ClientUnusable` if the client is closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[jobs.OutcomeOrError | None] = loop.create_future()
        self._futures.setdefault(job_id, []).append(future)
        timer = None
        try:
            await self._listen()
            # The job may have ended before the subscription stood.
            await self._read([job_id])
            if timeout_s is not None:
                timer = loop.call_later(timeout_s, _settle, future, None)
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            self._futures[job_id].remove(future)
            if not self._futures[job_id]:
                del self._futures[job_id]

    async def _listen(self) -> None:
        if self._closed is not None:
            raise self._closed
        subscribed = self._subscribed
        if subscribed is None:
            self._subscribed = subscribed = asyncio.get_running_loop().create_future()
            listener = asyncio.create_task(self._run(subscribed))
            self._listeners.add(listener)
            listener.add_done_callback(self._listeners.discard)
        if not subscribed.done():
            await asyncio.shield(subscribed)
        subscribed.result()

    async def _run(self, subscribed: asyncio.Future[None]) -> None:
        pubsub: Any = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(self._schema.keys.done)
            subscribed.set_result(None)
            read_all_at = time.monotonic() + POLL_S
            # A cancellation that meets redis-py's own timeout is lost: hence the flag.
            while self._closed is None:
                now = time.monotonic()
                if now >= read_all_at:
                    await self._read(list(self._futures))
                    read_all_at = now + POLL_S
                    continue
                message = await pubsub.get_message(timeout=read_all_at - now)
                job_id = message["data"].decode(errors="replace") if message else None
                if job_id in self._futures:
                    await self._read([job_id])
            raise self._closed
        # Whatever ends it, nobody must wait for what will not come.
        except BaseException as error:
            self._fail(error, subscribed)
            if not isinstance(error, Exception):
                raise
        finally:
            await pubsub.aclose()

    async def _read(self, job_ids: list[str]) -> None:
        for start in range(0, len(job_ids), READ_AT_ONCE):
            operation = outcomes.fetch(self._schema, job_ids[start : start + READ_AT_ONCE])
            for job_id, ended in (await self._do(operation)).items():
                for future in self._futures.get(job_id, ()):
                    _settle(future, ended)

    def _fail(self, error: BaseException, subscribed: asyncio.Future[None]) -> None:
        """End all waits with an error; the next one begins to listen anew."""
        self._subscribed = None
        if self._closed is not None:
            ours: Exception = self._closed
        elif isinstance(error, redis.RedisError):
            ours = translate(error, self._schema.settings)
        elif isinstance(error, Exception):
            ours = error
        else:
            ours = RedisUnavailable("the task that listens for results was cancelled: try again")
        if ours is not error and isinstance(error, Exception):
            ours.__cause__ = error
        waiting: list[asyncio.Future[Any]] = [subscribed, *chain(*self._futures.values())]
        for future in waiting:
            if not future.done():
                future.set_exception(ours)
                future.exception()  # whoever still waits sees it; nobody has to

    async def aclose(self, error: ClientUnusable) -> None:
        """End all waits with `error`."""
        self._closed = error
        for listener in self._listeners:
            listener.cancel()
        if self._listeners:
            await asyncio.wait(self._listeners)


def _settle(future: asyncio.Future[T], result: T) -> None:
    """Give a future its result, unless it has one."""
    if not future.done():
        future.set_result(result)
