"""A pool of broker connections, for the threads of one client."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from kombu import Connection

from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.connection import POOL_WAIT_S
from contract.store.redis_errors import closed_error

#: Sending the messages of a few jobs takes a connection for only some milliseconds.
MAX_CONNECTIONS = 10

#: A waiting thread has received no connection; None would tell it to open one.
_NOTHING: Any = object()
#: Where a waiting thread receives a connection; None if it must open one.
Place: TypeAlias = SimpleQueue[Connection | None]


class BrokerConnectionPool:
    """A few connections, each used by one thread at a time; the others wait in a line.

    A connection is handed to the thread that has waited longest. Otherwise, threads that submit
    many jobs would take it again and again, while others wait until they give up.

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
        self._lock = threading.Lock()
        self._free: list[Connection | None] = [None] * max_connections
        self._waiting: deque[Place] = deque()

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
            self._give(lent if reusable else None)
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
        with self._lock:
            if self._free:
                return self._free.pop()
            place: Place = SimpleQueue()
            self._waiting.append(place)
        try:
            return place.get(timeout=self._wait_s)
        except Empty:
            if (found := self._leave(place)) is not _NOTHING:
                return found
            raise RedisUnavailable(
                f"no connection for messages to Redis at {self._settings.redis_location} became"
                f" free within {self._wait_s:g} s; other threads are using all"
                f" {self._max_connections} connections of this client"
            ) from None
        except BaseException:  # the wait was interrupted
            if (found := self._leave(place)) is not _NOTHING:
                self._give(found)
            raise

    def _leave(self, place: Place) -> Any:
        """Stop waiting; return the connection that was handed over at the last moment, if any."""
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                return _NOTHING
        return place.get()

    def _give(self, connection: Connection | None) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().put(connection)
            else:
                self._free.append(connection)

    def _close_free(self) -> None:
        with self._lock:
            taken, self._free = self._free, [None] * len(self._free)
            # They find the client closed.
            while self._closed and self._waiting:
                self._waiting.popleft().put(None)
        for connection in taken:
            if connection is not None:
                connection.close()
