"""The progress of many jobs together: of a batch of a client, and of a run of `rescore`."""

from __future__ import annotations

from enum import StrEnum

from contract.records import Record
from contract.results import JobState


class BatchProgress(Record):
    """The number of a batch's jobs in each state, and the time that the others still take."""

    batch_id: str
    #: The batch's name for people.
    label: str | None
    #: Seconds since the epoch, by the clock of Redis.
    submitted_at: float
    started_at: float | None
    #: When the last job ended; None until all have.
    ended_at: float | None
    #: Whether the process that submits the batch still adds jobs.
    submitting: bool
    #: The number of jobs, in total and by state.
    jobs: int
    waiting: int
    running: int
    done: int
    failed: int
    cancelled: int
    #: Jobs without a record: not submitted yet, expired, or lost by a failover of Redis.
    missing: int
    #: The number of requests, in total, with a result, and of jobs that failed or were cancelled.
    requests: int
    done_requests: int
    failed_requests: int
    #: The number of pairs, in total and with a score.
    pairs: int
    done_pairs: int
    #: The number of pairs scored in a second since the first job was started.
    pairs_per_s: float | None
    #: The number of seconds until all jobs have ended, at this speed; None as long as no job has
    #: been scored.
    left_s: float | None

    @property
    def ended(self) -> bool:
        """Return whether no job is waiting, running or still to be submitted."""
        return self.waiting + self.running == 0 and not (self.missing and self.submitting)

    @property
    def state(self) -> JobState:
        """The state of all jobs together; a batch without some of its jobs has failed."""
        if not self.ended:
            begun = self.running or self.done or self.failed or self.cancelled
            return JobState.RUNNING if begun else JobState.QUEUED
        if self.failed or (self.missing and not self.cancelled):
            return JobState.FAILED
        return JobState.CANCELLED if self.cancelled else JobState.DONE


class RunState(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    DONE = "done"
    #: It ended with an error or Ctrl-C; the same command continues it.
    STOPPED = "stopped"
    #: Its process was killed, or has no connection to Redis.
    INTERRUPTED = "interrupted"


class RunProgress(Record):
    """The progress of a run of `rerankq rescore`."""

    run_id: str
    #: The name of its output file.
    label: str
    host: str
    pid: int
    state: RunState
    #: Seconds since the epoch, by the clock of Redis.
    started_at: float = 0.0
    updated_at: float = 0.0
    queries: int
    failed_queries: int
    #: The number of pairs, in total, and of those that are scored or have failed.
    pairs: int
    done_pairs: int
    #: The speed since this start of the run.
    pairs_per_s: float | None
    left_s: float | None
