"""How to re-score: which model, how much at a time, and how long to wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract import names

#: Pairs of a job, at most and at least. With more, workers are idle while the last job of a run is
#: scored; with fewer, the time that a job spends in the queue adds to that of its scoring.
MOST_PAIRS, LEAST_PAIRS = 1_000, 100
#: Jobs of a small run: enough to keep some workers busy to the end.
JOBS = 32


#: Which queries to score once more: those that failed, or those that a smaller model scored.
RetryKind = Literal["failed", "downgraded"]


@dataclass(frozen=True)
class Options:
    """How to re-score."""

    model: str | None = None
    top_k: int | None = None
    #: Whether a smaller model may score what does not fit this one's memory or time.
    allow_downgrade: bool = True
    #: Jobs in flight.
    window: int = 8
    pairs_per_job: int = MOST_PAIRS
    priority: int = names.PRIORITY_BULK
    #: How long to wait for a worker that answers, at the start and whenever all is quiet.
    worker_wait_s: float = 15.0
    #: How long to wait for a Redis that went away.
    redis_wait_s: float = 60.0
    #: How long to go on while no job is accepted and none ends, though Redis and a worker answer.
    max_wait_s: float = 1_800.0


def job_size(pairs: int) -> int:
    """Return the number of pairs of each job of a run, by the pairs of the run."""
    return min(MOST_PAIRS, max(LEAST_PAIRS, pairs // JOBS))
