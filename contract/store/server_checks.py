"""Check the configuration of Redis and the clocks; each warning is one line with the fix."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from contract.redis_url import NO_CLUSTER
from contract.store.operation import Operation, Schema

#: Smaller differences between clocks are harmless, because timeouts are longer.
SKEW_S = 5.0

#: The first version with all commands that kombu uses.
OLDEST_VERSION = (6, 2)


def check_all(schema: Schema) -> Operation[tuple[str, ...]]:
    """Return warnings about Redis' settings and the clocks, as far as Redis reports them."""

    def send(pipe: Any) -> None:
        pipe.time()
        pipe.info()
        pipe.zrange(schema.keys.unacked_index, 0, 0, desc=True, withscores=True)

    def read(replies: list[Any]) -> tuple[str, ...]:
        (seconds, micros), info, held = replies
        now = seconds + micros / 1e6
        return (
            *check_server(info),
            *_check_memory(info),
            *_check_persistence(info),
            *_check_clock("this machine", time.time() - now),
            # A worker records the time at which it takes a message, by its own clock.
            *_check_clock("a worker", max(0.0, held[0][1] - now) if held else 0.0),
        )

    return Operation(send, read)


def check_clock() -> Operation[tuple[str, ...]]:
    """Return a warning if the clock of this machine differs from the clock of Redis."""

    def read(replies: list[Any]) -> tuple[str, ...]:
        seconds, micros = replies[0]
        return tuple(_check_clock("this machine", time.time() - seconds - micros / 1e6))

    return Operation(lambda pipe: pipe.time(), read)


def cluster_mode() -> Operation[bool]:
    """Return whether the server is one of Redis Cluster."""
    return Operation(
        lambda pipe: pipe.info("cluster"), lambda replies: replies[0].get("cluster_enabled") == 1
    )


def check_server(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why a server is unsuitable, regardless of its settings."""
    version = str(info.get("redis_version", ""))
    if (numbers := _numbers(version)) and numbers < OLDEST_VERSION:
        needed = ".".join(map(str, OLDEST_VERSION))
        yield f"Redis {version} is too old; upgrade it to {needed} or newer"
    if info.get("redis_mode") == "cluster" or info.get("cluster_enabled") == 1:
        yield NO_CLUSTER
    if info.get("redis_mode") == "sentinel":
        yield (
            "this is a sentinel, not Redis; use"
            " sentinel://HOST:PORT,HOST:PORT/0?master_name=NAME as RERANKQ_REDIS_URL"
        )
    if info.get("role") == "slave":
        yield "this Redis is a replica and accepts no jobs; set RERANKQ_REDIS_URL to its primary"


def _numbers(version: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, version.split(".")))
    except ValueError:
        return ()


def _check_memory(info: Mapping[str, Any]) -> Iterator[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            "Redis may remove jobs and results when its memory is full (maxmemory-policy"
            f" {policy}); set maxmemory-policy to noeviction"
        )


def _check_persistence(info: Mapping[str, Any]) -> Iterator[str]:
    if not info.get("aof_enabled"):
        yield (
            "Redis has no append-only file, so it loses the jobs and results since its last"
            " snapshot when it stops; set appendonly to yes"
        )
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            yield f"Redis could not write to its disk ({name} is {info[name]}); check its log"


def _check_clock(whose: str, ahead_s: float) -> Iterator[str]:
    if abs(ahead_s) > SKEW_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        yield (
            f"the clock of {whose} is {abs(ahead_s):,.0f} s {direction} Redis; synchronize both"
            " clocks with NTP"
        )
