"""The options of a re-scoring: the model, the size of jobs, and the limits of waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract import names

#: The maximum and minimum number of pairs of a job. With larger jobs, workers are idle while the
#: last job of a run is scored; with smaller jobs, the overhead of the queue dominates.
MOST_PAIRS, LEAST_PAIRS = 1_000, 100
#: The number of jobs of a small run, enough to keep several workers busy until the end.
JOBS = 32


#: Which queries to score again: those that failed, or those that a smaller model scored.
RetryKind = Literal["failed", "downgraded"]


@dataclass(frozen=True)
class Options:
    """The options of a re-scoring."""

    model: str | None = None
    top_k: int | None = None
    #: Whether a smaller model may score jobs for which this one runs out of memory or time.
    allow_downgrade: bool = True
    #: The maximum number of jobs in flight.
    window: int = 8
    pairs_per_job: int = MOST_PAIRS
    priority: int = names.PRIORITY_BULK
    #: How long to wait for a worker to answer, at the start and whenever no job ends.
    worker_wait_s: float = 15.0
    #: How long to wait for Redis after it becomes unavailable.
    redis_wait_s: float = 60.0
    #: How long to wait while no job is accepted or ends, although Redis and a worker answer.
    max_wait_s: float = 1_800.0


def job_size(pairs: int) -> int:
    """Return the number of pairs per job for a run with `pairs` pairs."""
    return min(MOST_PAIRS, max(LEAST_PAIRS, pairs // JOBS))
