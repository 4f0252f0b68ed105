"""A pool of broker connections, for the threads of one client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue

from kombu import Connection

from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.connection import POOL_WAIT_S
from contract.store.redis_errors import closed_error

#: Sending the messages of fifty jobs takes a connection for about ten milliseconds.
MAX_CONNECTIONS = 10


class BrokerConnectionPool:
    """A few connections, each used by one thread at a time.

    `kombu.Connection.Pool` is unsuitable. Closing it closes connections in use, and their threads
    reconnect and leave the new socket open in the closed pool. It also reuses a connection after an
    error, in an unknown state. The pools of `kombu.pools` are shared by the whole process, and its
    program may have limited them for its own Celery app.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        settings: Settings,
        *,
        max_connections: int = MAX_CONNECTIONS,
        wait_s: float = POOL_WAIT_S,
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._max_connections = max_connections
        self._wait_s = wait_s
        self._closed = False
        self._free: LifoQueue[Connection | None] = LifoQueue()
        for _ in range(max_connections):
            self._free.put(None)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Provide a connection to the block; close it if the block raises.

        Raises `RedisUnavailable` if none becomes free in time, `ClientUnusable` after `close`.
        """
        lent = self._take()
        reusable = False
        try:
            if self._closed:
                raise closed_error()
            if lent is None:
                lent = self._connect()
            yield lent
            reusable = True
        finally:
            self._free.put(lent if reusable else None)
            if lent is not None and not reusable:
                lent.close()
            if self._closed or not reusable:
                # After an error of Redis, the free connections may be of no use either.
                self._close_free()

    def close(self) -> None:
        """Close the connections; those in use are closed when their threads are done."""
        self._closed = True
        self._close_free()

    def _take(self) -> Connection | None:
        try:
            return self._free.get(timeout=self._wait_s)
        except Empty:
            raise RedisUnavailable(
                f"no connection for messages to Redis at {self._settings.redis_location} became"
                f" free within {self._wait_s:g} s; other threads are using all"
                f" {self._max_connections} connections of this client"
            ) from None

    def _close_free(self) -> None:
        taken: list[Connection | None] = []
        with suppress(Empty):
            while True:
                taken.append(self._free.get_nowait())
        for connection in taken:
            self._free.put(None)  # wakes a waiting thread, which then finds the client closed
            if connection is not None:
                connection.close()
