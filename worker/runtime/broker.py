"""The broker connection of a worker's Celery app, which uses `worker.runtime.transport`.

Kombu finds a transport by the scheme of a URL, in a table that all apps of a process share. That
table is not changed. The connections of this app choose their transport themselves, and log lines
show redis:// or sentinel://.
"""

from __future__ import annotations

from typing import Any

import kombu
from celery.app import amqp
from kombu import connection

from worker.runtime.transport import SentinelTransport, Transport


class _WithTransport:
    """A mixin that makes a connection use our transports."""

    transport_cls: str

    def get_transport_cls(self) -> type[Transport]:
        """Return the class of our transport for the scheme of the URL."""
        return SentinelTransport if self.transport_cls == "sentinel" else Transport


class Connection(_WithTransport, kombu.Connection):
    """A connection of a worker, of Flower, or of a client that queries workers."""

    def Pool(self, limit: int | None = None, **options: Any) -> ConnectionPool:  # noqa: N802
        """Return a pool of such connections."""
        return ConnectionPool(self, limit, **options)


class PooledConnection(_WithTransport, connection.PooledConnection):
    """A connection that is returned to its pool."""


class ConnectionPool(connection.ConnectionPool):
    """A pool of our connections."""

    def new(self) -> PooledConnection:
        """Return another connection for the pool."""
        return PooledConnection(self, **dict(self.connection._info(resolve=False)))


class AMQP(amqp.AMQP):
    """The object with which Celery creates connections."""

    Connection = BrokerConnection = Connection
