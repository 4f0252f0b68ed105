"""What is measured, as it stands in `bench.json`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

#: Scores that differ by no more than this are the same: float32 sums in another order.
EXACT = 1e-3


@dataclass(frozen=True)
class Spread:
    """Repeats of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The median, the lowest and the highest."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def quartiles(cls, values: Sequence[float]) -> Self:
        """The median and the quartiles: for many repeats, of which one or two go astray."""
        low, median, high = statistics.quantiles(values, n=4)
        return cls(median, low, high)


@dataclass(frozen=True)
class Scored:
    """One way on one kind of documents."""

    model: str
    documents: str
    way: str
    title: str
    int8: bool
    #: Of each repeat.
    pairs: list[int]
    tokens: list[int]
    seconds: list[float]
    pairs_per_s: Spread
    #: Unpadded tokens of the pairs.
    tokens_per_s: Spread
    #: To `predict` at its best batch size, repeat by repeat.
    ratio: Spread
    #: Of the time in which the machine's best matrix product would do the useful work.
    share_of_ceiling: Spread
    #: Of its process, to the end of these documents; PSS of pages shared with other ways is less.
    peak_rss_mb: float
    pss_mb: float
    #: The largest |score - score of predict|, over all pairs.
    max_difference: float
    #: Whether that is no more than `EXACT`.
    exact: bool


@dataclass(frozen=True)
class Failed:
    """A way, or a part, that could not be measured."""

    model: str
    what: str
    reason: str


@dataclass(frozen=True)
class Ceiling:
    """GFLOP/s of matrix products of a model's shapes, see `ceiling.py`."""

    model: str
    linear_gflops: Spread
    packed_gflops: Spread
    #: The higher of the two medians: the ceiling.
    gflops: float


@dataclass(frozen=True)
class Call:
    """One query with so many short documents, in one call."""

    model: str
    documents: int
    way: str
    ms: Spread


@dataclass(frozen=True)
class Queue:
    """The whole path through Redis with so many worker children."""

    model: str
    children: int
    threads_each: int
    pairs: int
    pairs_per_s: Spread
    #: Of `Scorer.score` in as many processes with as many threads, on the same pairs.
    in_process_pairs_per_s: Spread
    #: Through the queue to in-process, repeat by repeat.
    ratio: Spread
    max_difference: float
    #: Jobs of 20 short documents to an idle worker, with quartiles: as the caller sees them, ...
    calls: int
    call_ms: Spread
    #: ... in-process with the threads of one child, and the difference of the two.
    in_process_ms: Spread
    added_ms: Spread


@dataclass(frozen=True)
class ChildMemory:
    """Of one worker child, after it has scored jobs."""

    model: str
    child: int
    rss_mb: float
    pss_mb: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Burst:
    """Many small jobs submitted and awaited at once by one asyncio program."""

    jobs: int
    seconds: float
    #: The longest time in which the program's event loop did not come round.
    worst_loop_delay_ms: float


@dataclass
class Bench:
    """All of one run."""

    machine: dict[str, Any]
    options: dict[str, Any]
    #: What a reader of the figures has to know.
    notes: list[str] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    queue: list[Queue] = field(default_factory=list)
    memory: list[ChildMemory] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    took_s: float = 0.0
