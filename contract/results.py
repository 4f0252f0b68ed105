"""The states and the outcome of a job: a result with a ranking for each request, or a failure."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import Field, JsonValue, TypeAdapter

from contract.errors import InvalidInput, JobFailed, RerankError
from contract.passages import Passage
from contract.records import CANCELLED, Failure, Provenance, Record, is_none


class RankedDocument(Record):
    """A candidate with its new rank and score."""

    id: str
    #: The index among the request's candidates, from 0.
    index: int
    #: The new rank, from 1.
    rank: int
    #: The model's raw logit: any real number, higher is better.
    score: float
    #: Sigmoid of the score, from 0 to 1.
    relevance: float
    #: The passage that the score is from; None if the document was not cut into passages.
    passage: Passage | None = Field(None, exclude_if=is_none)
    metadata: dict[str, JsonValue] | None = None


def relevance(score: float) -> float:
    """Return the sigmoid of a score: 0 to 1, without overflow at either end."""
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    power = math.exp(score)
    return power / (1.0 + power)


class Ranking(Record):
    """The documents of one query, best first, all scored by one model."""

    query_id: str | None
    documents: tuple[RankedDocument, ...]
    #: The number of candidates that were truncated to the model's maximum length. With passages,
    #: candidates with text outside of all passages count too.
    truncated: int = 0
    #: About how many tokens of them were not read; None if it is not known.
    lost_tokens: int | None = Field(None, exclude_if=is_none)
    #: The number of candidates whose passages are shorter than requested, because of a long query;
    #: None without passages.
    shortened: int | None = Field(None, exclude_if=is_none)


class JobResult(Record):
    """The rankings of a job, in the order of its requests."""

    job_id: str
    rankings: tuple[Ranking, ...]
    provenance: Provenance

    def as_before(self) -> JobResult:
        """Return the result without fields that the callers of old jobs do not know."""
        return self.model_copy(
            update={
                "rankings": tuple(
                    each.model_copy(update={"lost_tokens": None}) for each in self.rankings
                ),
                "provenance": self.provenance.model_copy(update={"lost_tokens": None}),
            }
        )

    @property
    def documents(self) -> tuple[RankedDocument, ...]:
        """The ranked documents of a job with one request.

        Raises `InvalidInput` if the job has several requests: use `rankings` instead.
        """
        if len(self.rankings) != 1:
            raise InvalidInput(
                f"job {self.job_id} has {len(self.rankings)} rankings; read .rankings instead"
            )
        return self.rankings[0].documents


Outcome = JobResult | Failure
#: An outcome, or the error that explains why it is not available.
OutcomeOrError = Outcome | RerankError

OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def result_of(ended: OutcomeOrError) -> JobResult:
    """Return the result; raise `JobFailed` if it is a failure, or the error in its place."""
    if isinstance(ended, RerankError):
        raise ended
    if isinstance(ended, Failure):
        raise JobFailed(ended)
    return ended


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def after(cls, outcome: Record) -> JobState:
        """Return the state of a job with this outcome."""
        if not isinstance(outcome, Failure):
            return cls.DONE
        return cls.CANCELLED if outcome.code == CANCELLED else cls.FAILED


#: The states of jobs that have ended.
FINAL_STATES = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class JobStatus(Record):
    """The status of a job, without its payload and outcome."""

    job_id: str
    state: JobState
    pairs: int
    requests: int
    attempts: int
    #: Seconds since the epoch.
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    #: The code of the failure, if the job failed.
    code: str | None
    #: Whether the result or failure can be read: the job has ended and its outcome has not expired.
    outcome_kept: bool = False
    #: The number of queued jobs with a higher priority, or the same one and submitted earlier; None
    #: unless it is queued. Bulk jobs take turns, so some of them may start later than this one.
    queued_before: int | None = None


#: The `code` of a dead letter whose record cannot be read.
UNREADABLE = "unreadable"


class DeadLetter(Record):
    """A failed job that can be retried as long as its payload is kept."""

    job_id: str
    #: The code of the failure: see `Failure`.
    code: str
    message: str
    attempts: int
    #: The number of attempts whose processes were killed.
    deaths: int
    requests: int
    pairs: int
    #: Seconds since the epoch.
    submitted_at: float
    ended_at: float
    priority: int
    #: Whether the payload is still there: it expires if the job waits too long.
    payload_kept: bool

    @property
    def readable(self) -> bool:
        """Return whether the record can be read; if not, it can only be dropped."""
        return self.code != UNREADABLE


class QueueStatus(Record):
    """The status of the service."""

    #: Names of the workers that answered.
    workers: tuple[str, ...]
    #: The number of messages that wait for a worker, in total and by priority.
    queue_depth: int
    queue_lengths: dict[int, int]
    #: How long the oldest job that no worker has started has waited; None if there is none.
    oldest_queued_s: float | None
    #: The number of jobs that workers have started.
    in_flight: int
    #: The number of messages that workers hold: for jobs in flight, for prefetched jobs, and for
    #: jobs that wait for a retry.
    unacked: int
    #: The number of jobs by state: those queued or running now, and all ended ones.
    jobs: dict[JobState, int]
    #: The number of pairs of the jobs that are queued or running; estimated if these are many.
    pairs: dict[JobState, int]
    #: The number of failed jobs that can be retried.
    dead_letters: int
    #: Redis' memory in use, and its limit; 0 is no limit.
    redis_memory_bytes: int
    redis_max_memory_bytes: int
    #: Values by counter and label value ("" without a label): see `contract.metrics`.
    counters: dict[str, dict[str, float]]
    #: Conditions that endanger jobs: see `contract.store.server_checks`.
    warnings: tuple[str, ...] = ()


def cancellation(status: JobStatus, message: str) -> Failure:
    """Return the outcome of a cancelled job."""
    return Failure(
        job_id=status.job_id,
        code=CANCELLED,
        message=message,
        retryable=False,
        attempts=status.attempts,
    )
