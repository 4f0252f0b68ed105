"""A pool whose threads wait for a free connection."""

from __future__ import annotations

from queue import Empty
from typing import Any

import redis


class BlockingPool(redis.BlockingConnectionPool):
    """redis-py's pool, from which threads can safely remove the idle connections.

    redis-py lists the idle connections and then closes them. Meanwhile, another thread may have
    taken one of them, and would lose it in the middle of a reply.
    """

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the idle connections, and those in use if requested."""
        if inuse_connections:
            super().disconnect()
            return
        self._checkpid()
        taken: list[Any] = []
        try:
            # The queue keeps the number of connections, so it has an end while threads return some.
            for _ in range(self.max_connections):
                taken.append(self.pool.get_nowait())
        except Empty:
            pass
        for connection in reversed(taken):
            if connection is not None:
                connection.disconnect()
            self.pool.put_nowait(connection)
