"""Carries the exchanges of `contract.records` to Redis, blocking or with asyncio.

The one seam where redis-py's errors become ours.
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import Executor
from typing import Any, TypeVar

import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract import tls
from contract.errors import RedisUnavailable
from contract.records import Exchange, Records
from contract.settings import Settings

T = TypeVar("T")


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


def translate(error: redis.RedisError, settings: Settings) -> RedisUnavailable:
    """Our error for one of redis-py's."""
    location = settings.redis_location
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return RedisUnavailable(f"Redis at {location} is full (maxmemory): try again later")
    if isinstance(error, redis.exceptions.AuthenticationError):
        return RedisUnavailable(f"Redis at {location} refuses the login: {error}")
    if (failure := tls.failure(error)) is not None:
        return RedisUnavailable(f"TLS with Redis at {location} fails: {_tls_advice(failure)}")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return RedisUnavailable(
            f"Redis at {location} does not answer ({error}):"
            " is it running, and is RERANKQ_REDIS_URL right?"
        )
    return RedisUnavailable(f"Redis at {location} refuses the command: {error}")


def _tls_advice(failure: ssl.SSLError) -> str:
    """What TLS says, and the way out."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({failure.verify_message}). RERANKQ_REDIS_URL must"
            f" have the host name of the certificate, and may end in ?{tls.CA_CERTS}=FILE with the"
            " certificate of its authority"
        )
    return (
        f"{failure.reason or failure}. Is it a port for TLS, and does it ask for a certificate"
        f" (?{tls.CERTFILE}=FILE&{tls.KEYFILE}=FILE in RERANKQ_REDIS_URL)?"
    )


class JobStore:
    """Carries exchanges over a blocking connection."""

    def __init__(self, client: redis.Redis, records: Records) -> None:
        self.client = client
        self.records = records

    def do(self, exchange: Exchange[T]) -> T:
        """Make the exchange in one transaction. Raises `RedisUnavailable`, and what it reads."""
        pipe = self.client.pipeline(transaction=True)
        exchange.send(pipe)
        try:
            replies = pipe.execute()
        except redis.RedisError as error:
            raise translate(error, self.records.settings) from error
        return exchange.read(replies)


class AsyncJobStore:
    """Carries exchanges over an asyncio connection; `threads` take the replies apart.

    Unpacking a large result takes long enough for the event loop's others to notice.
    """

    def __init__(self, client: Any, records: Records, threads: Executor) -> None:
        self.client = client
        self.records = records
        self.threads = threads
        self._under_way: set[asyncio.Future[Any]] = set()

    async def do(self, exchange: Exchange[T]) -> T:
        """Make the exchange in one transaction. Raises `RedisUnavailable`, and what it reads."""
        pipe = self.client.pipeline(transaction=True)
        exchange.send(pipe)
        try:
            # A caller that is cancelled must not tear the exchange apart in the middle of a reply.
            execution = asyncio.ensure_future(pipe.execute())
            self._under_way.add(execution)
            execution.add_done_callback(self._under_way.discard)
            replies = await asyncio.shield(execution)
        except redis.RedisError as error:
            raise translate(error, self.records.settings) from error
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, exchange.read, replies)

    async def aclose(self) -> None:
        """Let the exchanges under way come to their ends, and close the connection."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.client.aclose()
