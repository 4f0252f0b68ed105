"""The base class of all records, and the records that errors carry."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: Job ids are used in Redis keys, in Flower's URLs and on command lines.
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Record(BaseModel):
    """A frozen record that rejects unknown fields, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_job_id(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(
            "a job id must have 1 to 128 characters (letters, digits, . _ : -) and begin with a"
            " letter or digit"
        )
    return job_id


JobId = Annotated[str, AfterValidator(_check_job_id)]


#: The `code` of the failure of a cancelled job.
CANCELLED = "cancelled"


def is_none(value: object) -> bool:
    """Return whether to leave a field out of JSON, which earlier versions do not have."""
    return value is None


class Failure(Record):
    """The reason why a job has no result."""

    job_id: str
    #: The `code` of an error in `contract.errors`, or `cancelled`.
    code: str
    message: str
    #: Whether the same job may succeed if it is submitted again.
    retryable: bool
    #: How often a worker started the job.
    attempts: int


class SplitJob(Record):
    """A query that is too large for one job, or a batch of queries; several jobs are its parts."""

    job_id: JobId
    #: The index of each part's first candidate, and at the end the number of all candidates. In a
    #: batch, these are indexes of requests.
    bounds: tuple[int, ...] = Field(min_length=2)
    top_k: int | None
    of: Literal["candidates", "requests"] = "candidates"

    @property
    def part_ids(self) -> tuple[str, ...]:
        """The ids of the parts, in order."""
        return tuple(
            f"{self.job_id}.{begin + 1}-{end}"
            for begin, end in zip(self.bounds, self.bounds[1:], strict=False)
        )


#: The `reason` of a downgrade after an attempt whose process was killed.
WORKER_DIED = "worker_died"
#: The reason that a job keeps after the GPU of an attempt failed. The first time, it is tried again
#: with the same model.
GPU_FAILED = "gpu_failed"


class Provenance(Record):
    """The origin and the cost of a result's scores."""

    model_requested: str
    model: str
    #: The version of the model that computed the scores: its commit on the hub, or `sha256:` and a
    #: fingerprint of the files of a local model. None for the stub and for results of old workers.
    revision: str | None = None
    #: Whether a smaller model than the requested one computed the scores.
    downgraded: bool = False
    #: The reason, if downgraded: the code of the error that ended the previous attempt, or
    #: `worker_died`.
    reason: str | None = None
    #: How often a worker started the job, including this time.
    attempts: int
    backend: str
    device: str
    dtype: str
    #: The number of tokens that pairs are truncated to.
    max_length: int
    #: The prompt that was set for the model; None if it read its own, or none.
    prompt: str | None = None
    pairs: int
    #: The number of distinct pairs; equal pairs are scored once.
    unique_pairs: int
    #: The number of tokens of the unique pairs after truncation.
    tokens: int
    #: The number of pairs that were longer than `max_length`; with passages, the number of those
    #: that have text outside of all passages, or whose query was truncated.
    truncated: int
    #: How documents were cut into passages, as `TOKENS/STRIDE/AGGREGATE`; None if they were not.
    passages: str | None = Field(None, exclude_if=is_none)
    #: The number of distinct passages, which `tokens` counts; None without passages.
    passages_scored: int | None = Field(None, exclude_if=is_none)
    #: About how many tokens of these pairs were not read; None if it is not known.
    lost_tokens: int | None = Field(None, exclude_if=is_none)
    #: Seconds from receiving the job to its result.
    seconds: float
    #: The number of jobs that the query was split into. The counts above are sums over the parts;
    #: `attempts` is the highest of any part.
    parts: int = 1
