"""What an operator can get wrong about Redis and the clocks, each in one line with the way out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from contract.records import Exchange, Records

#: Clocks that differ by less do no harm: timeouts are longer.
SKEW_S = 5.0


def look(records: Records) -> Exchange[tuple[str, ...]]:
    """Return what is wrong with Redis' settings and the clocks, as far as Redis tells."""

    def send(pipe: Any) -> None:
        pipe.time()
        pipe.info("memory")
        pipe.info("persistence")
        pipe.zrange(records.keys.unacked_index, 0, 0, desc=True, withscores=True)

    def read(replies: list[Any]) -> tuple[str, ...]:
        (seconds, micros), memory, persistence, held = replies
        now = seconds + micros / 1e6
        return (
            *_of_memory(memory),
            *_of_persistence(persistence),
            *_of_clock("this machine", time.time() - now),
            # A worker that takes a message notes when, by its own clock.
            *_of_clock("a worker", max(0.0, held[0][1] - now) if held else 0.0),
        )

    return Exchange(send, read)


def _of_memory(info: Mapping[str, Any]) -> Iterator[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"Redis may remove jobs and results when memory is full (maxmemory-policy {policy}):"
            " set maxmemory-policy noeviction"
        )


def _of_persistence(info: Mapping[str, Any]) -> Iterator[str]:
    if not info.get("aof_enabled"):
        yield (
            "Redis keeps no append-only file: when it stops, jobs and results since its last"
            " snapshot are lost: set appendonly yes"
        )
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            yield f"Redis could not write to its disk ({name} is {info[name]}): see its log"


def _of_clock(whose: str, ahead_s: float) -> Iterator[str]:
    if abs(ahead_s) > SKEW_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        yield (
            f"the clock of {whose} is {abs(ahead_s):,.0f} s {direction} that of Redis: have both"
            " set by NTP"
        )
