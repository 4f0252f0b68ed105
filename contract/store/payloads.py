"""A job as it is stored for its worker: encoded by the producer, decoded by the worker."""

from __future__ import annotations

import hashlib
import zlib

from pydantic import ValidationError

from contract import jobs, limits
from contract.errors import LimitExceeded, PayloadInvalid, PayloadMissing
from contract.settings import Settings
from contract.store.compression import decompress
from contract.validation import describe


def encode(settings: Settings, job: jobs.Job) -> bytes:
    """Return the job as it is stored, before compression. Raises `LimitExceeded`."""
    body = job.model_dump_json().encode()
    limit = settings.max_bytes_per_job
    if len(body) > limit:
        raise LimitExceeded(
            f"job {job.id} is {len(body):,} bytes, the limit is {limit:,}"
            " (RERANKQ_MAX_BYTES_PER_JOB): split it, or send shorter texts"
        )
    limits.check_values(job.id, body, settings)
    return body


def decode(settings: Settings, job_id: str, payload: bytes | None) -> jobs.Job:
    """Return the job that `payload` holds.

    Raises `PayloadMissing`, `PayloadInvalid` or `LimitExceeded`.
    """
    if payload is None:
        raise PayloadMissing(
            f"job {job_id} has no payload: it waited longer than"
            f" {settings.payload_ttl_s} s (RERANKQ_PAYLOAD_TTL_S), or was removed"
        )
    try:
        body = decompress(payload, settings.max_bytes_per_job)
        limits.check_values(job_id, body, settings)
        job = jobs.Job.model_validate_json(body)
    except ValidationError as error:
        reason = describe(error)
        raise PayloadInvalid(f"job {job_id} does not validate: {reason}") from error
    except zlib.error as error:
        raise PayloadInvalid(f"job {job_id} is no compressed payload: {error}") from error
    if job.id != job_id:
        raise PayloadInvalid(f"the payload of job {job_id} is that of job {job.id}")
    return job


def digest(body: bytes) -> str:
    """Return a hash that tells whether two jobs have the same contents."""
    return hashlib.sha256(body).hexdigest()
