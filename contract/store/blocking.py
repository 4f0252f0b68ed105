"""Run operations over blocking connections."""

from __future__ import annotations

import queue
import sys
from typing import Any, TypeVar

import redis

from contract.errors import RedisUnavailable
from contract.store.operation import Operation, Schema
from contract.store.redis_errors import (
    DISCONNECTING,
    UNENCODABLE,
    closed_error,
    translate,
    unencodable,
)

T = TypeVar("T")


class Transaction(redis.client.Pipeline):
    """A pipeline that closes its connection if it was interrupted, instead of reusing it.

    After Ctrl-C or the signal of a time limit, the reply may still arrive. The next operation on
    that connection must not read it as its own.
    """

    def reset(self) -> None:  # type: ignore[override]
        error = sys.exception()
        if self.connection and error and not isinstance(error, redis.RedisError):
            self.connection.disconnect()  # type: ignore[no-untyped-call]
        super().reset()


class JobStore:
    """Runs operations over blocking connections. Safe to share between threads."""

    def __init__(self, client: redis.Redis, schema: Schema) -> None:
        self.client = client
        self.schema = schema
        self._closed = False

    def execute(self, operation: Operation[T]) -> T:
        """Run the operation in one transaction, unless it runs in sequence.

        Raises `RedisUnavailable`, `ClientUnusable` after `close`, and the errors of the operation.
        """
        self.check_open()
        pool, callbacks = self.client.connection_pool, self.client.response_callbacks
        pipe = Transaction(pool, callbacks, not operation.in_sequence, None)
        operation.send(pipe)
        try:
            replies = pipe.execute()
        except Exception as error:
            self.check_open(error)
            if isinstance(error.__context__, queue.Empty):  # raised by BlockingConnectionPool
                raise self._no_free_connection() from error
            if isinstance(error, DISCONNECTING):
                pool.disconnect(inuse_connections=False)
            if isinstance(error, UNENCODABLE):
                raise unencodable(error) from error
            if isinstance(error, redis.RedisError):
                raise translate(error, self.schema.settings) from error
            raise
        finally:
            self._close_idle_if_closed()
        return operation.read(replies)

    def check_open(self, cause: Exception | None = None) -> None:
        """Raise `ClientUnusable` if the client was closed."""
        if self._closed:
            raise closed_error() from cause

    def close(self) -> None:
        """Refuse further calls, and close the connections that no thread is using.

        A running call closes its own connection when it ends.
        """
        self._closed = True
        self._close_idle_if_closed()

    def _close_idle_if_closed(self) -> None:
        if self._closed:
            self.client.connection_pool.disconnect(inuse_connections=False)

    def _no_free_connection(self) -> RedisUnavailable:
        pool: Any = self.client.connection_pool
        return RedisUnavailable(
            f"no connection to Redis at {self.schema.settings.redis_location} became free within"
            f" {pool.timeout:g} s; other threads are using all {pool.max_connections} connections"
            " of this client"
        )
