"""Operations that accept jobs, and the functions that encode and decode their payloads."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from contract import jobs, limits, names
from contract.errors import JobConflict, LimitExceeded, Overloaded, PayloadInvalid, PayloadMissing
from contract.printable import counted
from contract.settings import Settings
from contract.store import scripts
from contract.store.operation import Operation, Schema
from contract.validation import describe


@dataclass(frozen=True)
class Submission:
    """The stored state of a job id after a submission."""

    #: Whether its message is known to be, or to have been, on the queue.
    sent: bool
    #: How the job is split, if it is.
    split: jobs.SplitJob | None = None


def accept(
    schema: Schema, job: jobs.Job, priority: int = names.PRIORITY_BULK
) -> Operation[Submission]:
    """Store a job, unless it is stored already.

    A job that has ended and whose outcome has expired is stored as a new job. Raises
    `LimitExceeded` if the job has too many bytes. When read, raises `JobConflict` if the id belongs
    to a job with other contents, or `Overloaded` if the queue or Redis' memory is nearly full.
    """
    keys, settings = schema.keys, schema.settings
    body = encode(settings, job)
    fingerprint = digest(body)

    def read(replies: list[Any]) -> Submission:
        on_record, sent, refused, amount, split = replies[0]
        if refused:
            raise overloaded(settings, refused.decode(), amount)
        _check_same(job.id, on_record, fingerprint)
        return Submission(sent=bool(sent), split=_read_split(split))

    return scripts.call(
        "accept",
        (
            keys.job(job.id),
            keys.payload(job.id),
            keys.queued,
            keys.counters,
            keys.outcome(job.id),
            keys.dead,
            *keys.queue_lists,
        ),
        (
            job.id,
            fingerprint,
            compress(body),
            job.pairs,
            len(job.requests),
            priority,
            settings.payload_ttl_s,
            schema.state_ttl_s,
            settings.max_queue_length,
            settings.max_redis_memory_percent,
        ),
        read,
    )


def accept_split(
    schema: Schema, job: jobs.Job, split: jobs.SplitJob
) -> Operation[jobs.SplitJob | None]:
    """Store that a job is split into parts; return how it is split.

    If the job was stored before, return how it was split then, or None if it was not split. Raises
    `JobConflict` when read, as `accept` does.
    """
    return _store_split(schema, split, digest(job.model_dump_json().encode()))


def accept_batch(
    schema: Schema, batch: jobs.SplitJob, parts: Sequence[jobs.Job]
) -> Operation[jobs.SplitJob | None]:
    """Store which jobs are the parts of a batch. Raises `JobConflict` when read."""
    bodies = (part.model_dump_json().encode() for part in parts)
    return _store_split(schema, batch, digest(b"\n".join(bodies)))


def _store_split(
    schema: Schema, split: jobs.SplitJob, fingerprint: str
) -> Operation[jobs.SplitJob | None]:
    def read(replies: list[Any]) -> jobs.SplitJob | None:
        on_record, recorded_split = replies[0]
        _check_same(split.job_id, on_record, fingerprint)
        return _read_split(recorded_split)

    return scripts.call(
        "accept_split",
        (schema.keys.job(split.job_id),),
        (fingerprint, split.model_dump_json(exclude_defaults=True), schema.state_ttl_s),
        read,
    )


def mark_sent(schema: Schema, job_id: str) -> Operation[None]:
    """Record that the job's message is on the queue."""
    return scripts.call("mark_sent", (schema.keys.job(job_id),), (), lambda _: None)


def overloaded(settings: Settings, what: str, amount: int) -> Overloaded:
    """Return the error for the reason that the scripts' `overload` returns."""
    if what == "queue":
        limit = f"{settings.max_queue_length:,} (RERANKQ_MAX_QUEUE_LENGTH)"
        full = f"the queue has {counted(amount, 'message')}, and the limit is {limit}"
    else:
        percent = f"{settings.max_redis_memory_percent} % (RERANKQ_MAX_REDIS_MEMORY_PERCENT)"
        full = f"Redis uses {amount} % of its memory, and the limit is {percent}"
    return Overloaded(f"the service is not accepting jobs: {full}; try again later")


def _check_same(job_id: str, on_record: bytes, digest: str) -> None:
    if on_record.decode() != digest:
        raise JobConflict(
            f"job id {job_id} belongs to a job with different contents; choose another id"
        )


def _read_split(split: bytes | None) -> jobs.SplitJob | None:
    return None if split is None else jobs.SplitJob.model_validate_json(split)


def encode(settings: Settings, job: jobs.Job) -> bytes:
    """Return the job in its stored form, before compression. Raises `LimitExceeded`."""
    body = job.model_dump_json().encode()
    limit = settings.max_bytes_per_job
    if len(body) > limit:
        raise LimitExceeded(
            f"job {job.id} has {len(body):,} bytes, but the limit is {limit:,}"
            " (RERANKQ_MAX_BYTES_PER_JOB); split the job, or send shorter texts"
        )
    limits.check_values(job.id, body, settings)
    return body


def decode(settings: Settings, job_id: str, payload: bytes | None) -> jobs.Job:
    """Return the job in `payload`.

    Raises `PayloadMissing`, `PayloadInvalid` or `LimitExceeded`.
    """
    if payload is None:
        raise PayloadMissing(
            f"the payload of job {job_id} is missing; it expired after"
            f" {settings.payload_ttl_s:,} s (RERANKQ_PAYLOAD_TTL_S), or was removed"
        )
    try:
        body = decompress(payload, settings.max_bytes_per_job)
        limits.check_values(job_id, body, settings)
        job = jobs.Job.model_validate_json(body)
    except ValidationError as error:
        reason = describe(error)
        raise PayloadInvalid(f"the payload of job {job_id} is invalid: {reason}") from error
    except zlib.error as error:
        raise PayloadInvalid(f"cannot decompress the payload of job {job_id}: {error}") from error
    if job.id != job_id:
        raise PayloadInvalid(f"the payload of job {job_id} belongs to job {job.id}")
    return job


def digest(body: bytes) -> str:
    """Return a hash by which to compare the contents of two jobs."""
    return hashlib.sha256(body).hexdigest()


def compress(body: bytes) -> bytes:
    """Compress a record at level 1, because a worker's time costs more than Redis' memory."""
    return zlib.compress(body, level=1)


def decompress(packed: bytes, limit_bytes: int) -> bytes:
    """Decompress a record; raise `zlib.error` if it is invalid or larger than `limit_bytes`."""
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(packed, limit_bytes + 1)
    if len(body) > limit_bytes:
        raise zlib.error(f"it exceeds {limit_bytes:,} bytes")
    if not unpacker.eof:
        raise zlib.error("it is incomplete")
    return body
