"""The records of measurements, as stored in `bench.json`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

#: Scores that differ by no more than this count as equal: float32 sums in another order.
EXACT = 1e-3


@dataclass(frozen=True)
class Spread:
    """The spread of repeats of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the median, the lowest and the highest value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def quartiles(cls, values: Sequence[float]) -> Self:
        """Return the median and the quartiles, for many repeats with one or two outliers."""
        low, median, high = statistics.quantiles(values, n=4)
        return cls(median, low, high)


@dataclass(frozen=True)
class Scored:
    """The results of one way on one kind of documents."""

    model: str
    documents: str
    way: str
    title: str
    int8: bool
    #: Pairs of each repeat.
    pairs: list[int]
    tokens: list[int]
    seconds: list[float]
    pairs_per_s: Spread
    #: Tokens of the pairs, without padding.
    tokens_per_s: Spread
    #: The ratio to `predict` at its best batch size, for each repeat.
    ratio: Spread
    #: The time that the machine's best matrix product would need for the useful work, as a share.
    share_of_ceiling: Spread
    #: Memory of the process at the end of these documents. PSS is less, because other ways share
    #: pages.
    peak_rss_mb: float
    pss_mb: float
    #: The largest |score - score of predict|, over all pairs.
    max_difference: float
    #: Whether that is no more than `EXACT`.
    exact: bool


@dataclass(frozen=True)
class FamilyScored:
    """rerankq and `predict` at its best batch size, with a model of another family than BERT."""

    family: str
    title: str
    #: Pairs of each repeat.
    pairs: int
    pairs_per_s: Spread
    predict_pairs_per_s: Spread
    #: The best batch size of `predict`.
    predict_batch: int
    #: The ratio of both, for each repeat.
    ratio: Spread
    #: The largest |score - score of predict|, and the standard deviation of the scores.
    max_difference: float
    deviation: float


@dataclass(frozen=True)
class Failed:
    """A way, or a part, that could not be measured."""

    model: str
    what: str
    reason: str


@dataclass(frozen=True)
class Ceiling:
    """GFLOP/s of matrix products with a model's shapes; see `ceiling.py`."""

    model: str
    linear_gflops: Spread
    packed_gflops: Spread
    #: The ceiling: the higher of the two medians.
    gflops: float


@dataclass(frozen=True)
class Call:
    """One query with `documents` short documents, in one call."""

    model: str
    documents: int
    way: str
    ms: Spread


@dataclass(frozen=True)
class Queue:
    """The whole path through Redis, with `children` worker children."""

    model: str
    children: int
    threads_each: int
    pairs: int
    pairs_per_s: Spread
    #: The speed of `Scorer.score` with as many processes and threads, on the same pairs.
    in_process_pairs_per_s: Spread
    #: The ratio of the queue's speed to that in-process, for each repeat.
    ratio: Spread
    max_difference: float
    #: Jobs of 20 short documents to an idle worker, with quartiles: the latency for the caller, ...
    calls: int
    call_ms: Spread
    #: ... in-process with the threads of one child, and the difference of both.
    in_process_ms: Spread
    added_ms: Spread


@dataclass(frozen=True)
class ChildMemory:
    """The memory of one worker child, after it has scored jobs."""

    model: str
    child: int
    rss_mb: float
    pss_mb: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Burst:
    """Many small jobs that one asyncio program submits and awaits at once."""

    jobs: int
    seconds: float
    #: The longest time for which the program's event loop was blocked.
    worst_loop_delay_ms: float


@dataclass
class Bench:
    """All results of one run."""

    machine: dict[str, Any]
    options: dict[str, Any]
    #: Remarks that are needed to interpret the figures.
    notes: list[str] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    families: list[FamilyScored] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    queue: list[Queue] = field(default_factory=list)
    memory: list[ChildMemory] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    took_s: float = 0.0
