"""The record of a job that has no result."""

from __future__ import annotations

from contract.record import Record

#: `code` of the failure of a cancelled job.
CANCELLED = "cancelled"


class Failure(Record):
    """Why a job has no result."""

    job_id: str
    #: The `code` of an error of `contract.errors`, or `cancelled`.
    code: str
    message: str
    #: Whether the same job may succeed if submitted again.
    retryable: bool
    #: How often a worker began the job.
    attempts: int
