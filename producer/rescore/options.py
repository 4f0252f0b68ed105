"""The options of a re-scoring: the model, the size of jobs, and the limits of waits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

from contract import names
from contract.errors import InvalidInput
from contract.passages import Passages

#: The maximum and minimum number of pairs in the first jobs, until the speed of the workers is
#: known.
MOST_PAIRS, LEAST_PAIRS = 1_000, 100
#: The minimum and maximum number of jobs in flight, unless it is fixed.
LEAST_JOBS, MOST_JOBS = 8, 10_000
#: Each process has at least one job in flight.
MOST_PROCESSES = LEAST_JOBS
#: A small run has this many jobs until the speed of the workers is known, so that no worker waits
#: long for the last jobs of the others.
LEAST_JOBS_PER_RUN = 32


#: Which queries to score again: those that failed, or those that a smaller model scored.
RetryKind = Literal["failed", "downgraded"]


#: The number of documents of each query that the large model of a cascade scores.
KEEP = 100
#: More than the candidates of any query.
MOST_KEPT = 10**9
_MODEL_AND_KEEP = re.compile(r"(.+):(\d+)", re.DOTALL | re.ASCII)


@dataclass(frozen=True)
class Cascade:
    """A small model scores all candidates, and another one the best `keep` of each query."""

    model: str
    keep: int = KEEP

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cascade of `MODEL` or `MODEL:KEEP`. Raises `InvalidInput`.

        Only a number after the last colon is KEEP, because names of models may have colons.
        """
        found = _MODEL_AND_KEEP.fullmatch(text)
        made = cls(found[1], int(found[2])) if found else cls(text)
        if not made.model or not 1 <= made.keep <= MOST_KEPT:
            raise InvalidInput(f"{text!r} is not MODEL:KEEP with a KEEP from 1 to {MOST_KEPT:,}")
        return made

    def check_other(self, model: str | None) -> None:
        """Raise `InvalidInput` if the model that scores the best documents is the same."""
        if model == self.model:
            raise InvalidInput(
                f"--cascade names {self.model!r}, which also scores the best documents; pass a"
                " smaller model, or another --model"
            )

    def __str__(self) -> str:
        return f"{self.model}:{self.keep}"


@dataclass(frozen=True)
class Options:
    """The options of a re-scoring."""

    model: str | None = None
    #: How long documents are cut into passages; None truncates them.
    passages: Passages | None = None
    top_k: int | None = None
    #: Whether a smaller model may score jobs for which this one runs out of memory or time.
    allow_downgrade: bool = True
    #: The maximum number of jobs in flight; None follows the number of workers.
    window: int | None = None
    #: The maximum number of pairs in a job; None follows the speed of the workers.
    pairs_per_job: int | None = None
    #: The number of pairs of the whole run, which limits the size of its jobs. Here and in the size
    #: of a job, each passage counts, as estimated from the length of the text.
    run_pairs: int = 0
    #: The number of processes that send jobs and collect results.
    processes: int = 1
    priority: int = names.PRIORITY_BULK
    #: How long to wait for a worker to answer, at the start and whenever no job ends.
    worker_wait_s: float = 15.0
    #: How long to wait for Redis after it becomes unavailable.
    redis_wait_s: float = 60.0
    #: How long to wait while no job is accepted or ends, although Redis and a worker answer.
    max_wait_s: float = 1_800.0

    @property
    def name(self) -> str:
        """The name of the model, for messages."""
        return self.model or "the workers' model"

    @property
    def first_pairs_per_job(self) -> int:
        """The maximum number of pairs in the first jobs."""
        return self.pairs_per_job or job_size(self.run_pairs)


def job_size(pairs: int) -> int:
    """Return the number of pairs of the first jobs of a run with `pairs` pairs."""
    return min(MOST_PAIRS, max(LEAST_PAIRS, pairs // LEAST_JOBS_PER_RUN))
