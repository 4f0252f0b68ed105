"""Connect to Redis from a producer."""

from __future__ import annotations

from typing import Any

import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.settings import Settings

#: The number of connections that the calls of one client share.
MAX_CONNECTIONS = 32
#: The longest that a thread waits for one of them to become free.
POOL_WAIT_S = 10.0
#: Each waiting thread holds a subscription, so this limits the number of waiting threads.
MAX_SUBSCRIPTIONS = 10_000


def connection_options(settings: Settings, *, asynchronous: bool = False) -> dict[str, Any]:
    """Return the options of redis-py's clients for a producer.

    A call is retried only if its connection was closed. A server that does not answer is reported
    after one timeout.
    """
    retry = AsyncRetry if asynchronous else Retry
    return {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "client_name": "rerankq-client",
        "retry": retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    }


def connect(settings: Settings, pool_wait_s: float = POOL_WAIT_S) -> redis.Redis:
    """Return a client for calls; any number of threads can share it."""
    return redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(
            settings.redis_url.get_secret_value(),
            max_connections=MAX_CONNECTIONS,
            timeout=pool_wait_s,
            **connection_options(settings),
        )
    )


def connect_subscribers(settings: Settings) -> redis.Redis:
    """Return a client for subscriptions.

    It has its own pool, because redis-py closes a connection after its subscription. In a shared
    pool, the next call would have to open a new connection.
    """
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=MAX_SUBSCRIPTIONS,
        **connection_options(settings),
    )
