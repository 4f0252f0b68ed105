"""How a worker's Celery app connects to the broker: with `worker.runtime.transport`."""

from __future__ import annotations

import kombu
from celery.app import amqp

from worker.runtime.transport import Transport


class Connection(kombu.Connection):
    """A connection that uses our transport, whatever the scheme of its URL.

    Kombu's table of transports, which all apps of a process share, is left as it is, and log lines
    say redis://.
    """

    def get_transport_cls(self) -> type[Transport]:
        """Return the class of the transport."""
        return Transport


class AMQP(amqp.AMQP):
    """What Celery makes connections with."""

    Connection = BrokerConnection = Connection
