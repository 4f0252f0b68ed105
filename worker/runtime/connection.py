"""How a process of the worker is connected to Redis."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.store.blocking import JobStore
from contract.store.operation import Schema

#: A child waits for a reply; the main process has others to look after.
CHILD_TIMEOUT_S = 10.0
MAIN_TIMEOUT_S = 2.5


def open_store(schema: Schema, timeout_s: float) -> JobStore:
    """Return a store that gives up a server which says nothing for `timeout_s`."""
    client = redis.Redis.from_url(
        schema.settings.redis_url.get_secret_value(),
        socket_timeout=timeout_s,
        socket_connect_timeout=min(5.0, timeout_s),
        socket_keepalive=True,
        health_check_interval=30,
        # Once more, for a connection that was closed meanwhile.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        client_name="rerankq-store",
    )
    return JobStore(client, schema)
