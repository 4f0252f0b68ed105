"""Operations on an attempt at a job: begin it, keep its lease, release it.

At most one attempt is under way, as long as its process renews a lease: see `lua/start.lua`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contract import metrics
from contract.jobs import JobState
from contract.store import scripts
from contract.store.operation import Operation, Schema


class Verdict(StrEnum):
    """Whether an attempt was begun, or why not."""

    STARTED = "started"
    #: The job's key holds something else than a record of a job.
    UNREADABLE = "unreadable"
    #: There is no record of the job: it was forgotten, has expired, or never was.
    UNKNOWN = "unknown"
    #: The job has ended already.
    ENDED = "ended"
    #: Another attempt is under way.
    HELD = "held"
    #: Another attempt was under way, and may have died: ask again after the grace.
    SILENT = "silent"
    #: There have been as many attempts as are allowed.
    EXHAUSTED = "exhausted"


@dataclass(frozen=True)
class Started:
    """An attempt at a job, or why there is none."""

    verdict: Verdict
    #: How many there have been, this one included.
    attempts: int
    #: How many of those before died: their processes were killed.
    deaths: int
    #: The code of the error for which another model is to do the job, if there was one.
    downgrade: str | None
    #: See `contract.store.submissions.decode`.
    payload: bytes | None
    #: How the job has ended, if it has.
    ended: JobState | None


def start(
    schema: Schema, job_id: str, token: str, *, max_attempts: int, lease_s: float
) -> Operation[Started]:
    """Begin an attempt, if there is to be one: count it, lease the job, load what is to do.

    After a third of the lease without a renewal, an attempt counts as dead.
    """

    def read(replies: list[Any]) -> Started:
        verdict, attempts, deaths, reason, payload, *state = replies[0]
        return Started(
            verdict=Verdict(verdict.decode()),
            attempts=attempts,
            deaths=deaths,
            downgrade=reason.decode() or None,
            payload=payload,
            ended=JobState(state[0].decode()) if state else None,
        )

    return scripts.call(
        "start",
        (
            schema.keys.job(job_id),
            schema.keys.queued,
            schema.keys.running,
            schema.keys.payload(job_id),
            schema.keys.lease(job_id),
            schema.keys.counters,
        ),
        (
            job_id,
            schema.state_ttl_s,
            token,
            round(1000 * lease_s),
            f"{lease_s / 3:.3f}",
            max_attempts,
        ),
        read,
    )


def renew(schema: Schema, job_id: str, token: str, lease_s: float) -> Operation[bool]:
    """Keep the lease; False if the attempt no longer counts, because the job has ended."""
    return scripts.call(
        "renew",
        (schema.keys.job(job_id), schema.keys.lease(job_id)),
        (token, round(1000 * lease_s)),
        lambda replies: bool(replies[0]),
    )


def release(
    schema: Schema,
    job_id: str,
    token: str,
    *,
    downgrade: str = "",
    died: bool = False,
    counts: metrics.Counts | None = None,
) -> Operation[bool]:
    """End an attempt that is to be followed by another; `token` may be its beginning only.

    False if it was not that attempt which is under way.
    """
    return scripts.call(
        "release",
        (
            schema.keys.job(job_id),
            schema.keys.lease(job_id),
            schema.keys.queued,
            schema.keys.running,
            schema.keys.counters,
        ),
        (
            job_id,
            token,
            downgrade,
            int(died),
            schema.state_ttl_s,
            *metrics.arguments(counts or {}),
        ),
        lambda replies: bool(replies[0]),
    )
