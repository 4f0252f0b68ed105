"""What is known of a job, a dead letter and the whole service without reading payloads."""

from __future__ import annotations

from enum import StrEnum

from contract.failure import CANCELLED, Failure
from contract.record import Record
from contract.results import JobResult, Outcome


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
