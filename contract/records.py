"""What all records that cross the wire have in common, and those that errors carry."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: Stands in Redis keys, in Flower's addresses and on command lines.
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Record(BaseModel):
    """A frozen record that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_job_id(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError("a job id is 1 to 128 letters, digits, or any of . _ : -")
    return job_id


JobId = Annotated[str, AfterValidator(_check_job_id)]


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


class SplitJob(Record):
    """A job of one query that is too large for a job: several others stand for it, its parts."""

    job_id: JobId
    #: Places of the first candidates of the parts, and the number of all candidates.
    bounds: tuple[int, ...] = Field(min_length=2)
    top_k: int | None

    @property
    def part_ids(self) -> tuple[str, ...]:
        """Ids of the parts, in the order of their candidates."""
        return tuple(
            f"{self.job_id}.{begin + 1}-{end}"
            for begin, end in zip(self.bounds, self.bounds[1:], strict=False)
        )


#: `reason` of a downgrade after an attempt whose process was killed.
WORKER_DIED = "worker_died"


class Provenance(Record):
    """Where a result's scores came from, and what they cost."""

    model_requested: str
    model: str
    #: Whether a smaller model than the one asked for made the scores.
    downgraded: bool = False
    #: Why, if downgraded: the code of the error that ended the attempt before, or `worker_died`.
    reason: str | None = None
    #: How often a worker began the job, this time included.
    attempts: int
    backend: str
    device: str
    dtype: str
    #: Tokens a pair is cut to.
    max_length: int
    pairs: int
    #: Equal pairs are scored once.
    unique_pairs: int
    #: Of the unique pairs, after cutting.
    tokens: int
    #: Pairs that were longer than `max_length`.
    truncated: int
    #: From taking the job to its result.
    seconds: float
    #: Number of jobs that the query's candidates were split over: what is counted above is summed,
    #: attempts are those of the part that needed most.
    parts: int = 1
