"""Run operations over asyncio connections."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any, TypeVar

import redis

from contract.errors import RedisUnavailable
from contract.store.connection import MAX_CONNECTIONS
from contract.store.operation import Operation, Schema
from contract.store.redis_errors import DISCONNECTING, UNENCODABLE, translate, unencodable

T = TypeVar("T")


class AsyncJobStore:
    """Runs operations over asyncio connections, and parses the replies in `threads`.

    Unpacking a large result would delay the other tasks of the event loop. At most
    `max_connections` operations run at the same time.
    """

    def __init__(
        self,
        client: Any,
        schema: Schema,
        threads: Executor,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.client = client
        self.schema = schema
        self.threads = threads
        self._free = asyncio.Semaphore(max_connections)
        self._under_way: set[asyncio.Future[Any]] = set()

    async def execute(self, operation: Operation[T]) -> T:
        """Run the operation in one transaction, unless it runs in sequence.

        Raises `RedisUnavailable`, and the errors of the operation.
        """
        pipe = self.client.pipeline(transaction=not operation.in_sequence)
        operation.send(pipe)
        await self._free.acquire()
        # Cancelling the caller must not interrupt the operation in the middle of a reply. Until it
        # has ended, it counts as running and uses its connection.
        execution = asyncio.ensure_future(pipe.execute())
        self._under_way.add(execution)
        execution.add_done_callback(self._ended)
        try:
            replies = await asyncio.shield(execution)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if execution.cancelled() and task and not task.cancelling():
                # Something cancelled all tasks of the loop, but not this caller.
                raise RedisUnavailable("the call to Redis was cancelled; try again") from error
            raise
        except UNENCODABLE as error:
            raise unencodable(error) from error
        except redis.RedisError as error:
            if isinstance(error, DISCONNECTING):
                await self.client.connection_pool.disconnect(inuse_connections=False)
            raise translate(error, self.schema.settings) from error
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, operation.read, replies)

    def _ended(self, execution: asyncio.Future[Any]) -> None:
        self._under_way.discard(execution)
        self._free.release()

    async def aclose(self) -> None:
        """Wait for running operations to end, and close the connections."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.client.aclose()
