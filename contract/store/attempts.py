"""Operations on an attempt at a job: start it, renew its lease, release it.

At most one attempt runs at a time, and its process renews a lease: see `lua/start.lua`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contract import metrics
from contract.jobs import GPU_FAILED, JobState
from contract.store import scripts
from contract.store.operation import Operation, Schema


class Verdict(StrEnum):
    """The outcome of trying to start an attempt."""

    STARTED = "started"
    #: The job's key does not hold the record of a job.
    UNREADABLE = "unreadable"
    #: There is no record of the job: it was forgotten, has expired, or never existed.
    UNKNOWN = "unknown"
    #: The job has ended already.
    ENDED = "ended"
    #: Another attempt is running.
    HELD = "held"
    #: Another attempt may have died: try again after the grace period.
    SILENT = "silent"
    #: The job has used all allowed attempts.
    EXHAUSTED = "exhausted"


@dataclass(frozen=True)
class Started:
    """A started attempt at a job, or the reason why it was not started."""

    verdict: Verdict
    #: The number of attempts, including this one.
    attempts: int
    #: The number of earlier attempts whose processes were killed.
    deaths: int
    #: The code of the error that makes a smaller model score the job, if any; or `GPU_FAILED`.
    downgrade: str | None
    #: The encoded job: see `contract.store.encoding.decode_job`.
    payload: bytes | None
    #: The final state of the job, if it has ended.
    ended: JobState | None


def start(
    schema: Schema, job_id: str, token: str, *, max_attempts: int, lease_s: float
) -> Operation[Started]:
    """Start an attempt if the job's state allows it: count it, lease the job, load the payload.

    An attempt that has not renewed its lease for a third of the lease time counts as dead.
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
    """Renew the lease; return False if the attempt is obsolete because the job has ended."""
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
    """End an attempt so that another can follow; `token` may be a prefix of its token.

    Return False if that attempt is not the current one.
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


def note_gpu_failure(schema: Schema, job_id: str, token: str) -> Operation[bool]:
    """Note that the GPU of an attempt failed; return False if it is not the current attempt."""
    return scripts.call(
        "note_gpu_failure",
        (schema.keys.job(job_id),),
        (token, GPU_FAILED),
        lambda replies: bool(replies[0]),
    )
