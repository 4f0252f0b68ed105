"""Pools of connections to the primary that Sentinel names.

A connection asks for the primary whenever it connects. When its server is demoted, closes the
connection or does not answer in time, it connects again, to the new primary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import redis.asyncio.sentinel
import redis.sentinel

from contract.sentinel_url import SentinelUrl
from contract.store.pools import BlockingPool

Address: TypeAlias = tuple[str, int]


class _Sentinels(redis.sentinel.Sentinel):
    """Asks one sentinel after the other, and keeps no connection open for the next failover.

    redis-py reorders its list of sentinels. Two threads that do so at the same time can lose one.
    """

    #: The last one that has named the primary; it is the first to be asked again.
    _answered: Any = None

    def discover_master(self, service_name: str) -> Address:
        """Return the address of the primary. Raises `MasterNotFoundError` with the reasons."""
        reasons: list[str] = []
        for each in _in_order(self.sentinels, self._answered):
            try:
                masters = each.sentinel_masters()
            except redis.RedisError as error:
                reasons.append(_because(each, error))
                continue
            finally:
                each.connection_pool.disconnect(inuse_connections=False)
            if (reason := _unfit(masters.get(service_name), self.min_other_sentinels)) is None:
                self._answered = each
                return _address(masters[service_name])
            reasons.append(_because(each, reason))
        raise redis.sentinel.MasterNotFoundError("; ".join(reasons))


class _AsyncSentinels(redis.asyncio.sentinel.Sentinel):
    """The same for asyncio."""

    _answered: Any = None

    async def discover_master(self, service_name: str) -> Address:
        """Return the address of the primary. Raises `MasterNotFoundError` with the reasons."""
        reasons: list[str] = []
        for each in _in_order(self.sentinels, self._answered):
            try:
                masters = await each.sentinel_masters()
            except redis.RedisError as error:
                reasons.append(_because(each, error))
                continue
            finally:
                await each.connection_pool.disconnect(inuse_connections=False)
            if (reason := _unfit(masters.get(service_name), self.min_other_sentinels)) is None:
                self._answered = each
                return _address(masters[service_name])
            reasons.append(_because(each, reason))
        raise redis.asyncio.sentinel.MasterNotFoundError("; ".join(reasons))


def _in_order(sentinels: Iterable[Any], first: Any) -> list[Any]:
    return sorted(sentinels, key=lambda each: each is not first)


def _because(sentinel: Any, reason: object) -> str:
    options = sentinel.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}: {reason}"


def _unfit(primary: Any, min_others: int) -> str | None:
    """Return why a sentinel's answer cannot be used, if so."""
    if primary is None:
        return "it does not know the name"
    if not primary["is_master"] or primary["is_sdown"] or primary["is_odown"]:
        return "the primary is down"
    if primary["num-other-sentinels"] < min_others:
        return f"it knows {primary['num-other-sentinels']} other sentinels"
    return None


def _address(primary: Any) -> Address:
    return primary["ip"], primary["port"]


class _Disconnecting:
    """Disconnects after a timeout, as redis-py's other connections do.

    Otherwise, the next command would go to the same server, and could read the late reply.
    """

    def read_response(self, *args: Any, disconnect_on_error: bool = True, **options: Any) -> Any:
        read: Any = super()
        return read.read_response(*args, disconnect_on_error=disconnect_on_error, **options)


class _Connection(_Disconnecting, redis.sentinel.SentinelManagedConnection):  # type: ignore[misc]
    pass


class _SslConnection(_Disconnecting, redis.sentinel.SentinelManagedSSLConnection):  # type: ignore[misc]
    pass


class _BlockingPool(redis.sentinel.SentinelConnectionPool, BlockingPool):
    """A pool whose threads wait for a free connection."""

    def owns_connection(self, connection: Any) -> bool:
        """Return whether it is of this pool; close it if it leads to a former primary."""
        if self.master_address != (connection.host, connection.port):
            connection.disconnect()
        return bool(BlockingPool.owns_connection(self, connection))


def pool(url: SentinelUrl, *, blocking: bool = False, **options: Any) -> redis.ConnectionPool:
    """Return a pool of connections to the primary; `options` are those of the pool."""
    kind = _BlockingPool if blocking else redis.sentinel.SentinelConnectionPool
    sentinels = _Sentinels(**_options(url))  # type: ignore[no-untyped-call]
    connection = _Connection if url.tls is None else _SslConnection
    return kind(  # type: ignore[no-untyped-call]
        url.master_name, sentinels, connection_class=connection, **_login(url), **options
    )


def async_pool(url: SentinelUrl, **options: Any) -> Any:
    """Return such a pool for asyncio."""
    sentinels = _AsyncSentinels(**_options(url))  # type: ignore[no-untyped-call]
    return redis.asyncio.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
        url.master_name, sentinels, **_login(url), **options
    )


def _options(url: SentinelUrl) -> dict[str, Any]:
    return {
        "sentinels": url.sentinels,
        "min_other_sentinels": url.min_other_sentinels,
        "sentinel_kwargs": url.connection_options,
    }


def _login(url: SentinelUrl) -> dict[str, Any]:
    tls = {} if url.tls is None else {"ssl": True} | url.tls
    return {"db": url.database, "username": url.username, "password": url.password, **tls}
