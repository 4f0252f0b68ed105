"""Connect to Redis: to a server, or to the primary that Sentinel names."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.settings import Settings
from contract.store import sentinel
from contract.store.pools import BlockingPool

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


def open_client(settings: Settings, *, blocking: bool = False, **options: Any) -> redis.Redis:
    """Return a client; `options` are those of redis-py's pools and connections.

    In a `blocking` pool, threads wait for a free connection.
    """
    if (url := settings.redis_sentinel) is not None:
        return redis.Redis.from_pool(sentinel.pool(url, blocking=blocking, **options))
    pool = BlockingPool if blocking else redis.ConnectionPool
    return redis.Redis.from_pool(pool.from_url(settings.redis_url.get_secret_value(), **options))


def open_async_client(settings: Settings) -> redis.asyncio.Redis:
    """Return a client of a producer for one event loop."""
    options = connection_options(settings, asynchronous=True)
    if (url := settings.redis_sentinel) is not None:
        return redis.asyncio.Redis.from_pool(sentinel.async_pool(url, **options))
    return redis.asyncio.Redis.from_url(settings.redis_url.get_secret_value(), **options)


def connect(settings: Settings, pool_wait_s: float = POOL_WAIT_S) -> redis.Redis:
    """Return a client of a producer for calls; any number of threads can share it."""
    return open_client(
        settings,
        blocking=True,
        max_connections=MAX_CONNECTIONS,
        timeout=pool_wait_s,
        **connection_options(settings),
    )


def connect_subscribers(settings: Settings) -> redis.Redis:
    """Return a client of a producer for subscriptions.

    It has its own pool, because redis-py closes a connection after its subscription. In a shared
    pool, the next call would have to open a new connection.
    """
    return open_client(settings, max_connections=MAX_SUBSCRIPTIONS, **connection_options(settings))
