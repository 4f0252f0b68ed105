"""What is asked of Redis about dead letters: jobs that failed, and whose payload is kept.

Kept are those that another model, more memory or a repaired worker may still do; see
`RerankError.dead_letter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract import jobs, scripts
from contract.errors import JobNotFound
from contract.records import Exchange, Records, compress, digest_of


def ids(records: Records, at_most: int) -> Exchange[list[str]]:
    """The ids of the dead letters, the last first."""
    return Exchange(
        lambda pipe: pipe.zrevrange(records.keys.dead, 0, at_most - 1),
        lambda replies: [job_id.decode() for job_id in replies[0]],
    )


def not_found(job_id: str) -> JobNotFound:
    """The error of a job that is no dead letter."""
    return JobNotFound(f"job {job_id} is no dead letter: see `rerankq dead list`")


def letters(records: Records, job_ids: Sequence[str]) -> Exchange[list[jobs.DeadLetter]]:
    """Those of `job_ids` that are dead letters."""

    def send(pipe: Any) -> None:
        for job_id in job_ids:
            pipe.zscore(records.keys.dead, job_id)
            pipe.hgetall(records.keys.job(job_id))
            pipe.exists(records.keys.payload(job_id))

    def read(replies: list[Any]) -> list[jobs.DeadLetter]:
        each = zip(job_ids, replies[::3], replies[1::3], replies[2::3], strict=True)
        return [
            _letter(job_id, fields, bool(kept))
            for job_id, died_at, fields, kept in each
            if died_at is not None and b"message" in fields
        ]

    return Exchange(send, read)


def _letter(job_id: str, raw: dict[bytes, bytes], payload_kept: bool) -> jobs.DeadLetter:
    fields = {key.decode(): value.decode() for key, value in raw.items()}
    return jobs.DeadLetter(
        job_id=job_id,
        code=fields["code"],
        message=fields["message"],
        attempts=int(fields.get("attempts", 0)),
        deaths=int(fields.get("deaths", 0)),
        requests=int(fields.get("requests", 0)),
        pairs=int(fields.get("pairs", 0)),
        submitted_at=float(fields.get("submitted_at", 0)),
        ended_at=float(fields["ended_at"]),
        priority=int(fields.get("priority", 0)),
        payload_kept=payload_kept,
    )


def payload(records: Records, job_id: str) -> Exchange[jobs.Job]:
    """The job of a dead letter. Raises `JobNotFound`, `PayloadMissing` or `PayloadInvalid`."""

    def send(pipe: Any) -> None:
        pipe.zscore(records.keys.dead, job_id)
        pipe.get(records.keys.payload(job_id))

    def read(replies: list[Any]) -> jobs.Job:
        died_at, body = replies
        if died_at is None:
            raise not_found(job_id)
        return records.job(job_id, body)

    return Exchange(send, read)


def revive(records: Records, job: jobs.Job) -> Exchange[bool]:
    """Put a dead letter back on record as a new job; False if it is none any more.

    Its outcome is removed. Raises `LimitExceeded`.
    """
    body = records.encode(job)
    keys = records.keys
    return records.script(
        scripts.REVIVE,
        (
            keys.job(job.id),
            keys.outcome(job.id),
            keys.payload(job.id),
            keys.queued,
            keys.totals,
            keys.dead,
            keys.counters,
        ),
        (
            job.id,
            digest_of(body),
            compress(body),
            records.settings.payload_ttl_s,
            records.settings.job_ttl_s,
        ),
        lambda replies: bool(replies[0]),
    )


def drop(records: Records, job_id: str) -> Exchange[bool]:
    """Give up a dead letter and its payload; False if it is none. What failed stays failed."""
    keys = records.keys
    return records.script(
        scripts.DROP,
        (keys.job(job_id), keys.payload(job_id), keys.dead),
        (job_id,),
        lambda replies: bool(replies[0]),
    )
