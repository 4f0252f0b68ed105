"""What becomes of a job: its state, and at its end a result with a ranking for each request."""

from __future__ import annotations

from enum import StrEnum

from pydantic import JsonValue, TypeAdapter

from contract.errors import InvalidInput, JobFailed, RerankError
from contract.records import CANCELLED, Failure, Provenance, Record


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


Outcome = JobResult | Failure
#: An outcome, or why there is none to be had.
OutcomeOrError = Outcome | RerankError

OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def result_of(ended: OutcomeOrError) -> JobResult:
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
FINAL_STATES = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


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


#: `code` of a dead letter whose record cannot be read.
UNREADABLE = "unreadable"


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
    """The state of the service."""

    #: Names of the workers that answered.
    workers: tuple[str, ...]
    #: Messages waiting for a worker, and how many of them there are of each priority.
    queue_depth: int
    queue_lengths: dict[int, int]
    #: How long the oldest of the jobs that no worker has begun has waited; None if there is none.
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


def cancellation(status: JobStatus, message: str) -> Failure:
    """Return the outcome of a job that was given up."""
    return Failure(
        job_id=status.job_id,
        code=CANCELLED,
        message=message,
        retryable=False,
        attempts=status.attempts,
    )
