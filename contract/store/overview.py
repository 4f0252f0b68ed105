"""Operations on the service as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract import jobs, metrics, names
from contract.store import scripts, server_checks
from contract.store.operation import Operation, Schema

#: The number of jobs whose pairs are counted one by one, in about a millisecond of Redis.
COUNTED_JOBS = 1000


def status(schema: Schema, workers: Sequence[str]) -> Operation[jobs.QueueStatus]:
    """Return the status of the service, which includes `workers` unchanged."""
    keys = schema.keys
    checks = server_checks.check_all(schema)
    pairs = [_pairs(schema, live) for live in (keys.queued, keys.running)]

    def send(pipe: Any) -> None:
        pipe.time()
        for step in names.PRIORITY_STEPS:
            first = step * names.STEP_SPAN_S
            pipe.zrange(
                keys.queued,
                first,
                f"({first + names.STEP_SPAN_S}",
                byscore=True,
                offset=0,
                num=1,
                withscores=True,
            )
        pipe.zcard(keys.queued)
        pipe.zcard(keys.running)
        pipe.hgetall(keys.totals)
        pipe.hlen(keys.unacked)
        pipe.zcard(keys.dead)
        pipe.info("memory")
        pipe.hgetall(keys.counters)
        for name in keys.queue_lists:
            pipe.llen(name)
        for each in pairs:
            each.send(pipe)
        checks.send(pipe)

    def read(replies: list[Any]) -> jobs.QueueStatus:
        now, *replies = replies
        oldest = [
            first[0][1] - step * names.STEP_SPAN_S
            for step, first in zip(names.PRIORITY_STEPS, replies, strict=False)
            if first
        ]
        rest = replies[len(names.PRIORITY_STEPS) :]
        queued, running, totals, unacked, dead, memory, counted, *others = rest
        waiting, others = others[: len(keys.queue_lists)], others[len(keys.queue_lists) :]
        (queued_pairs, running_pairs), of_checks = others[: len(pairs)], others[len(pairs) :]
        lengths = dict(zip(names.PRIORITY_STEPS, waiting, strict=True))
        counts = {jobs.JobState(key.decode()): int(value) for key, value in totals.items()}
        counts |= {jobs.JobState.QUEUED: queued, jobs.JobState.RUNNING: running}
        return jobs.QueueStatus(
            workers=tuple(workers),
            queue_depth=sum(lengths.values()),
            queue_lengths=lengths,
            oldest_queued_s=_since(min(oldest), now) if oldest else None,
            in_flight=running,
            unacked=unacked,
            jobs={state: counts.get(state, 0) for state in jobs.JobState},
            pairs={jobs.JobState.QUEUED: queued_pairs, jobs.JobState.RUNNING: running_pairs},
            dead_letters=dead,
            redis_memory_bytes=memory["used_memory"],
            redis_max_memory_bytes=memory["maxmemory"],
            counters=metrics.totals(counted),
            warnings=checks.read(of_checks),
        )

    return Operation(send, read)


def _pairs(schema: Schema, live: str) -> Operation[int]:
    """Return the number of pairs of the jobs in a set: see `lua/count_pairs.lua`."""
    return scripts.call(
        "count_pairs", (live,), (schema.keys.job(""), COUNTED_JOBS), lambda found: found[0]
    )


def _since(then: float, now: tuple[int, int]) -> float:
    """Return the seconds from `then` to `now`, the server's clock as (seconds, microseconds)."""
    return max(0.0, now[0] + now[1] / 1e6 - then)


def count(schema: Schema, counts: metrics.Counts) -> Operation[None]:
    """Add to counters that do not belong to a job."""
    return scripts.call(
        "add_counts",
        (schema.keys.counters,),
        (schema.state_ttl_s, *metrics.arguments(counts)),
        lambda _: None,
    )
