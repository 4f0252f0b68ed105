"""The Redis connection of a worker's process."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.store.blocking import JobStore
from contract.store.connection import open_client
from contract.store.operation import Schema

#: A child can wait for a reply. The main process serves others and must not wait as long.
CHILD_TIMEOUT_S = 10.0
MAIN_TIMEOUT_S = 2.5


def open_store(schema: Schema, timeout_s: float) -> JobStore:
    """Return a store that raises an error if the server does not answer for `timeout_s`."""
    client = open_client(
        schema.settings,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(5.0, timeout_s),
        socket_keepalive=True,
        health_check_interval=30,
        # Retry once, for a connection that was closed while idle.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        client_name="rerankq-store",
    )
    return JobStore(client, schema)
