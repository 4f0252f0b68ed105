"""Carries the operations of this package to Redis, blocking or with asyncio.

The one seam where redis-py's errors become ours.
"""

from __future__ import annotations

import asyncio
import queue
import ssl
import sys
from concurrent.futures import Executor
from typing import Any, TypeVar

import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract import redis_tls
from contract.errors import ClientUnusable, RedisRefused, RedisUnavailable
from contract.settings import Settings
from contract.store.operation import Operation
from contract.store.schema import Schema

T = TypeVar("T")

#: Connections that the calls of one client share.
MAX_CONNECTIONS = 32
#: A thread waits this long for one of them to become free.
POOL_WAIT_S = 10.0
#: How replies begin that refuse a command for a while only: during a start or a failover, or while
#: the disk is full. redis-py takes the first word off those that it has an error of its own for.
PASSING = (
    *("MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "LOADING"),
    *("READONLY", "You can't write against a read only replica", "UNBLOCKED"),
)
#: Waiting threads hold a subscription each, so the number of threads is the bound.
MAX_SUBSCRIPTIONS = 10_000


def connection_options(settings: Settings, *, asynchronous: bool = False) -> dict[str, Any]:
    """Options of redis-py's clients for a producer.

    A call is tried again only on a connection that turned out to be closed: a silent server is
    reported after one timeout.
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


def connect(settings: Settings) -> redis.Redis:
    """Return a client for calls, whose connections are shared by any number of threads."""
    return redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(
            settings.redis_url.get_secret_value(),
            max_connections=MAX_CONNECTIONS,
            timeout=POOL_WAIT_S,
            **connection_options(settings),
        )
    )


def connect_subscribers(settings: Settings) -> redis.Redis:
    """Return a client for subscriptions.

    It has a pool of its own because redis-py closes a connection that was subscribed: taken from
    the pool of all others, the next call would have to open a new one.
    """
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=MAX_SUBSCRIPTIONS,
        **connection_options(settings),
    )


def closed_error() -> ClientUnusable:
    """The error of a call on a client that was closed."""
    return ClientUnusable("the client was closed: create another one")


def translate(error: redis.RedisError, settings: Settings) -> RedisUnavailable:
    """Our error for one of redis-py's."""
    location = settings.redis_location
    if isinstance(error.__context__, queue.Empty):  # raised by BlockingConnectionPool
        return RedisUnavailable(
            f"no connection to Redis at {location} became free within {POOL_WAIT_S:g} s: all"
            f" {MAX_CONNECTIONS} of this client are in use by other threads"
        )
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return RedisUnavailable(f"Redis at {location} is full (maxmemory): try again later")
    if isinstance(error, redis.exceptions.AuthenticationError):
        return RedisUnavailable(
            f"Redis at {location} refuses the login ({error}): check user and password of"
            " RERANKQ_REDIS_URL, in which all but letters and digits are percent-encoded"
        )
    if (failure := redis_tls.find_tls_error(error)) is not None:
        return RedisUnavailable(f"TLS with Redis at {location} fails: {_tls_advice(failure)}")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return RedisUnavailable(
            f"Redis at {location} does not answer ({error}):"
            " is it running, and is RERANKQ_REDIS_URL right?"
        )
    if str(error).startswith(PASSING):
        return RedisUnavailable(f"Redis at {location} refuses the command: {error}")
    return RedisRefused(f"Redis at {location} refuses the command: {_refusal_advice(error)}")


def _refusal_advice(error: redis.RedisError) -> str:
    """What Redis says, and the way out where it is known."""
    said = str(error)
    if "WRONGTYPE" in said:
        return f"{said}. A key has been overwritten by something else: delete it"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"{said}. See deploy/users.acl for the rights that are needed"
    if "CROSSSLOT" in said:
        return f"{said}. Redis in cluster mode is not supported: use a single server"
    return said


def _tls_advice(failure: ssl.SSLError) -> str:
    """What TLS says, and the way out."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({failure.verify_message}). RERANKQ_REDIS_URL must"
            " have the host name of the certificate, and may end in"
            f" ?{redis_tls.CA_CERTS}=FILE with the certificate of its authority"
        )
    return (
        f"{failure.reason or failure}. Is it a port for TLS, and does it ask for a certificate"
        f" (?{redis_tls.CERTFILE}=FILE&{redis_tls.KEYFILE}=FILE in RERANKQ_REDIS_URL)?"
    )


class Transaction(redis.client.Pipeline):
    """A pipeline whose connection is closed, not reused, if it was interrupted.

    The reply to what it sent may still be on its way (Ctrl-C, the signal of a time limit), and must
    not be read as the reply to the next exchange on that connection.
    """

    def reset(self) -> None:  # type: ignore[override]
        error = sys.exception()
        if self.connection and error and not isinstance(error, redis.RedisError):
            self.connection.disconnect()  # type: ignore[no-untyped-call]
        super().reset()


class JobStore:
    """Carries operations over blocking connections. Safe to share between threads."""

    def __init__(self, client: redis.Redis, schema: Schema) -> None:
        self.client = client
        self.schema = schema
        self._closed = False

    def execute(self, operation: Operation[T]) -> T:
        """Run the operation in one transaction.

        Raises `RedisUnavailable`, `ClientUnusable` after `close`, and what the operation reads.
        """
        self.check_open()
        pipe = Transaction(self.client.connection_pool, self.client.response_callbacks, True, None)
        operation.send(pipe)
        try:
            replies = pipe.execute()
        except Exception as error:
            self.check_open(error)
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

        A call under way closes its own connection when it ends.
        """
        self._closed = True
        self._close_idle_if_closed()

    def _close_idle_if_closed(self) -> None:
        if self._closed:
            self.client.connection_pool.disconnect(inuse_connections=False)


class AsyncJobStore:
    """Carries operations over asyncio connections; `threads` take the replies apart.

    Unpacking a large result takes long enough for the event loop's others to notice. At most
    `MAX_CONNECTIONS` exchanges are under way.
    """

    def __init__(self, client: Any, schema: Schema, threads: Executor) -> None:
        self.client = client
        self.schema = schema
        self.threads = threads
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._under_way: set[asyncio.Future[Any]] = set()

    async def execute(self, operation: Operation[T]) -> T:
        """Run the operation in one transaction. Raises `RedisUnavailable`, and what it reads."""
        pipe = self.client.pipeline(transaction=True)
        operation.send(pipe)
        await self._free.acquire()
        # A caller that is cancelled must not tear the exchange apart in the middle of a reply. It
        # counts, and its connection is in use, until it has come to its end.
        execution = asyncio.ensure_future(pipe.execute())
        self._under_way.add(execution)
        execution.add_done_callback(self._ended)
        try:
            replies = await asyncio.shield(execution)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if execution.cancelled() and task and not task.cancelling():
                # By somebody who cancels all tasks of the loop, but not this caller.
                raise RedisUnavailable(
                    "the exchange with Redis was cancelled: try again"
                ) from error
            raise
        except redis.RedisError as error:
            raise translate(error, self.schema.settings) from error
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, operation.read, replies)

    def _ended(self, execution: asyncio.Future[Any]) -> None:
        self._under_way.discard(execution)
        self._free.release()

    async def aclose(self) -> None:
        """Let the exchanges under way come to their ends, and close the connection."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.client.aclose()
