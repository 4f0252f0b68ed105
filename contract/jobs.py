"""The records that cross the wire: a job goes in, exactly one result or failure comes out.

A job holds requests (a query with its candidates); its result holds one ranking a request, in the
order of the requests, and says where its scores came from.
"""

from __future__ import annotations

import json
import re
import uuid
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from contract.errors import InvalidInput, JobFailed, RerankError
from contract.validation import describe as describe

#: Stands in Redis keys, in Flower's addresses and on command lines.
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Record(BaseModel):
    """A frozen record that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_job_id(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError("a job id is 1 to 128 letters, digits, or any of . _ : -")
    return job_id


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the query is empty")
    return text


def _check_unicode(text: str) -> str:
    # Half a surrogate pair is a Python string, but can be neither stored nor tokenised.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half a surrogate pair, which is not Unicode") from None
    return text


def _check_unicode_inside(data: dict[str, JsonValue]) -> dict[str, JsonValue]:
    text = _check_unicode(json.dumps(data, ensure_ascii=False))
    # What reads the job back has a limit of its own, which the job's own nesting adds to.
    around = 8
    try:
        from_json("[" * around + text + "]" * around)
    except ValueError:
        raise ValueError("the metadata is nested too deeply") from None
    return data


Text = Annotated[str, AfterValidator(_check_unicode)]
JobId = Annotated[str, AfterValidator(_check_job_id)]


class Candidate(Record):
    """A document of the first stage, to be scored against the query."""

    #: The caller's own name of the document; unique within its request.
    id: Text = Field(min_length=1)
    #: May be empty: test collections hold empty documents.
    text: Text
    #: The first stage's score.
    score: float | None = None
    #: Comes back unchanged with the ranked document.
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_check_unicode_inside)] | None = None


class Request(Record):
    """A query with its candidates."""

    query: Annotated[Text, AfterValidator(_check_not_blank)]
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    #: The caller's own name of the query.
    query_id: Text | None = None
    #: Keep this many of the best; None keeps all.
    top_k: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check_ids_differ(self) -> Self:
        seen: set[str] = set()
        for candidate in self.candidates:
            if candidate.id in seen:
                raise ValueError(f"candidate id {candidate.id!r} stands twice")
            seen.add(candidate.id)
        return self


class Job(Record):
    """What one message on the queue stands for."""

    id: JobId
    requests: tuple[Request, ...] = Field(min_length=1)
    #: The model asked for; None is the worker's default.
    model: str | None = Field(None, min_length=1)
    #: Whether a smaller model may score the job if this one runs out of memory or time.
    allow_downgrade: bool = True

    @property
    def pairs(self) -> int:
        """Number of (query, document) pairs."""
        return sum(len(request.candidates) for request in self.requests)


class Split(Record):
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


class RankedDocument(Record):
    """A candidate with its new place and score."""

    id: str
    #: Place in the request's candidates, from 0.
    index: int
    #: From 1.
    rank: int
    #: The model's raw logit: any real number, higher is better.
    score: float
    #: Sigmoid of the score, from 0 to 1.
    relevance: float
    metadata: dict[str, JsonValue] | None = None


class Ranking(Record):
    """One query's documents, best first, all scored by one model."""

    query_id: str | None
    documents: tuple[RankedDocument, ...]
    #: Candidates that were longer than the model reads.
    truncated: int = 0


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


class JobResult(Record):
    """The rankings of a job, in the order of its requests."""

    job_id: str
    rankings: tuple[Ranking, ...]
    provenance: Provenance

    @property
    def documents(self) -> tuple[RankedDocument, ...]:
        """The ranked documents of a job with one request.

        Raises `InvalidInput` if the job has several: read `rankings` then.
        """
        if len(self.rankings) != 1:
            raise InvalidInput(
                f"job {self.job_id} has {len(self.rankings)} rankings: read .rankings"
            )
        return self.rankings[0].documents


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

    @classmethod
    def of(cls, job_id: str, error: RerankError, attempts: int) -> Failure:
        """The record of `error`."""
        return cls(
            job_id=job_id,
            code=error.code,
            message=str(error),
            retryable=error.retryable,
            attempts=attempts,
        )


#: `code` of the failure of a cancelled job.
CANCELLED = "cancelled"
#: `code` of a dead letter whose record cannot be read.
UNREADABLE = "unreadable"
#: `reason` of a downgrade after an attempt whose process was killed.
WORKER_DIED = "worker_died"

Outcome = JobResult | Failure
#: An outcome, or why there is none to be had.
Ended = Outcome | RerankError


def result_of(ended: Ended) -> JobResult:
    """The result; raises `JobFailed` if it is a failure, or the error that stands in its place."""
    if isinstance(ended, RerankError):
        raise ended
    if isinstance(ended, Failure):
        raise JobFailed(ended)
    return ended


class JobState(StrEnum):
    """Where a job is on its way."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def after(cls, outcome: Outcome) -> JobState:
        """The state of a job with this outcome."""
        if isinstance(outcome, JobResult):
            return cls.DONE
        return cls.CANCELLED if outcome.code == CANCELLED else cls.FAILED


#: States that last.
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class JobStatus(Record):
    """What is known of a job without reading its payload or outcome."""

    job_id: str
    state: JobState
    pairs: int
    requests: int
    attempts: int
    #: Seconds since the epoch.
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    #: The code of its failure, if it has one.
    code: str | None
    #: Whether its result or failure can be read: not before its end, nor when it has expired.
    outcome_kept: bool = False


class DeadLetter(Record):
    """A job that failed, and that may be tried again as long as its payload is kept."""

    job_id: str
    #: Of the failure: see `Failure`.
    code: str
    message: str
    attempts: int
    #: Attempts whose processes were killed.
    deaths: int
    requests: int
    pairs: int
    #: Seconds since the epoch.
    submitted_at: float
    ended_at: float
    priority: int
    #: Not if it expired: the job waited too long.
    payload_kept: bool

    @property
    def readable(self) -> bool:
        """Whether its record can be read; if not, it can only be dropped."""
        return self.code != UNREADABLE


class QueueStatus(Record):
    """The service at a glance."""

    #: Names of the workers that answered.
    workers: tuple[str, ...]
    #: Messages waiting for a worker, and how many of them there are of each priority.
    queue_depth: int
    queue_lengths: dict[int, int]
    #: How long the oldest job has waited that no worker has begun; None if there is none.
    oldest_queued_s: float | None
    #: Jobs that workers have begun.
    in_flight: int
    #: Messages that workers hold: of jobs in flight, those taken next, those to be tried again.
    unacked: int
    #: Number of jobs: queued and running now, the others in total.
    jobs: dict[JobState, int]
    #: Failed jobs that can be tried again.
    dead_letters: int
    #: What Redis uses in all, and what it may use: 0 for no limit.
    redis_memory_bytes: int
    redis_max_memory_bytes: int
    #: By counter and label (or "" if it has none): see `contract.metrics`.
    counters: dict[str, dict[str, float]]
    #: What endangers jobs: see `contract.store.server_checks`.
    warnings: tuple[str, ...] = ()


def cancellation(status: JobStatus, how: str) -> Failure:
    """The outcome of a job that was given up."""
    return Failure(
        job_id=status.job_id,
        code=CANCELLED,
        message=how,
        retryable=False,
        attempts=status.attempts,
    )


def new_job_id() -> str:
    """An id nobody else has."""
    return str(uuid.uuid4())


RecordType = TypeVar("RecordType", bound=Record)


def parse(kind: type[RecordType], data: Any) -> RecordType:
    """Make a record of plain data (a dict, or a record of that kind, which is taken as it is).

    Raises `InvalidInput` with the first thing that is wrong and its place.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(describe(error)) from error


OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)
