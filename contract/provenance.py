"""The record of where scores came from."""

from __future__ import annotations

from contract.record import Record

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
