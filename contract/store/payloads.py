"""Encode jobs for Redis, and decode them."""

from __future__ import annotations

from pydantic import ValidationError

from contract import limits
from contract.columns import JobColumns
from contract.errors import LimitExceeded, PayloadInvalid, PayloadMissing, PayloadTooNew
from contract.jobs import Job
from contract.settings import Settings
from contract.store import encoding
from contract.store.encoding import CannotDecompress, NewerFormat
from contract.validation import describe


def encode(settings: Settings, columns: JobColumns) -> bytes:
    """Return a job in its stored form, before compression. Raises `LimitExceeded`."""
    body = encoding.columns_body(columns)
    limit = settings.max_bytes_per_job
    if len(body) > limit:
        raise LimitExceeded(
            f"job {columns.id} has {len(body):,} bytes, but the limit is {limit:,}"
            " (RERANKQ_MAX_BYTES_PER_JOB); split the job, or send shorter texts"
        )
    limits.check_values(columns.id, body, settings)
    return body


def decode(settings: Settings, job_id: str, payload: bytes | None) -> JobColumns:
    """Return the job in `payload`, which is in any format.

    Raises `PayloadMissing`, `PayloadInvalid` or `LimitExceeded`.
    """
    if payload is None:
        raise PayloadMissing(
            f"the payload of job {job_id} is missing; it expired after"
            f" {settings.payload_ttl_s:,} s (RERANKQ_PAYLOAD_TTL_S), or was removed"
        )
    try:
        body = encoding.decompress(payload, settings.max_bytes_per_job)
        limits.check_values(job_id, body, settings)
        columns = _read(body, are_columns=encoding.are_columns(payload))
    except NewerFormat as error:
        raise PayloadTooNew(f"cannot read the payload of job {job_id}: {error}") from error
    except CannotDecompress as error:
        raise PayloadInvalid(f"cannot decompress the payload of job {job_id}: {error}") from error
    except ValidationError as error:
        reason = describe(error)
        raise PayloadInvalid(f"the payload of job {job_id} is invalid: {reason}") from error
    if columns.id != job_id:
        raise PayloadInvalid(f"the payload of job {job_id} belongs to job {columns.id}")
    return columns


def _read(body: bytes, *, are_columns: bool) -> JobColumns:
    if are_columns:
        return encoding.read_columns(JobColumns, body)
    return JobColumns.of(Job.model_validate_json(body))
