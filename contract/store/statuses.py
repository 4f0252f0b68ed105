"""Operations that read the state of one job."""

from __future__ import annotations

from typing import Any

from contract import jobs
from contract.errors import JobNotFound
from contract.store.operation import Operation, Schema


def fetch(schema: Schema, job_id: str) -> Operation[jobs.JobStatus]:
    """Return the status of a job that is not split. Raises `JobNotFound` when read."""
    operation = find(schema, job_id)

    def read(replies: list[Any]) -> jobs.JobStatus:
        status = operation.read(replies)
        if isinstance(status, jobs.SplitJob):
            raise not_found(job_id)
        return status

    return Operation(operation.send, read)


def find(schema: Schema, job_id: str) -> Operation[jobs.JobStatus | jobs.SplitJob]:
    """Return the job's status, or how it is split. Raises `JobNotFound` when read."""

    def send(pipe: Any) -> None:
        pipe.hgetall(schema.keys.job(job_id))
        pipe.exists(schema.keys.outcome(job_id))

    def read(replies: list[Any]) -> jobs.JobStatus | jobs.SplitJob:
        fields = {key.decode(): value.decode() for key, value in replies[0].items()}
        if "split" in fields:
            return jobs.SplitJob.model_validate_json(fields["split"])
        if "state" not in fields:
            raise not_found(job_id)
        return jobs.JobStatus(
            job_id=job_id,
            state=jobs.JobState(fields["state"]),
            pairs=int(fields.get("pairs", 0)),
            requests=int(fields.get("requests", 0)),
            attempts=int(fields.get("attempts", 0)),
            submitted_at=float(fields.get("submitted_at", fields.get("started_at", 0))),
            started_at=float(fields["started_at"]) if "started_at" in fields else None,
            ended_at=float(fields["ended_at"]) if "ended_at" in fields else None,
            code=fields.get("code") or None,
            outcome_kept=bool(replies[1]),
        )

    return Operation(send, read)


def queued_before(schema: Schema, job_id: str) -> Operation[int | None]:
    """Return the number of jobs that are queued before a job; None unless it is queued."""

    def send(pipe: Any) -> None:
        pipe.zrank(schema.keys.queued, job_id)

    return Operation(send, lambda replies: replies[0])


def not_found(job_id: str) -> JobNotFound:
    """Return the error for a job that has no record."""
    return JobNotFound(
        f"job {job_id} not found; it was never submitted, its record has expired, or a failover of"
        " Redis has lost it"
    )
