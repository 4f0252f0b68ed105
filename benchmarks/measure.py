"""Time all ways of one model on the same pairs, one way at a time, in random order."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.records import EXACT, Call, Ceiling, Scored, Spread
from benchmarks.runner import Answer, Children, Memory
from benchmarks.shapes import SHAPES, useful_flops
from benchmarks.ways import BATCH_SIZES, REFERENCE, WAYS
from benchmarks.work import KINDS, Collection, Kind, Pair, Plan, samples, token_lengths
from contract.printable import counted

#: The process that measures the ceiling. It takes turns with the ways.
CEILING = "ceiling"
CALL_SIZES = (20, 50, 100)
#: The ways whose single calls are timed.
CALL_WAYS = ("rerankq", *(f"predict-{size}" for size in BATCH_SIZES))


@dataclass
class _Cell:
    """One kind of documents, with its pairs and their answers."""

    kind: Kind
    check: list[Pair]
    repeats: list[list[Pair]]
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    differences: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    memory: dict[str, Memory] = field(default_factory=dict)


class Measuring:
    """The measurements of one model. `seed` selects the pairs and the order."""

    def __init__(
        self, children: Children, folder: Path, collection: Collection, pairs: int, seed: int
    ) -> None:
        self._children = children
        self._folder = folder
        self._shape = SHAPES[folder.name]
        self._collection = collection
        self._pairs = pairs
        self._seed = seed
        self._chance = random.Random(seed)
        self._cells: list[_Cell] = []
        self._gflops: list[list[float]] = []

    def plan(self, kind: Kind, repeats: int) -> Plan:
        """Return how many pairs of this kind to score in each repeat."""
        pairs = self._pairs * self._shape.pairs_factor * kind.pairs_factor
        return Plan.of(round(pairs), repeats, queries=len(self._collection))

    def check(self, kind: Kind, repeats: int) -> dict[str, float]:
        """Score one query with every way before timing, and return how much the scores differ."""
        check, timed = samples(self._collection, kind, self.plan(kind, repeats), self._seed)
        cell = _Cell(kind, check, timed)
        self._cells.append(cell)
        scores = {}
        for way in list(self._children.loaded):
            answer = self._children.ask(way, check)
            if answer is not None and way != CEILING:
                scores[way] = answer.scores
        self._compare(cell, scores)
        return dict(cell.differences)

    def repeat(self, number: int) -> None:
        """Time every way once on the kind that was checked last."""
        cell = self._cells[-1]
        pairs = cell.repeats[number]
        ways = list(self._children.loaded)
        scores = {}
        for way in self._chance.sample(ways, len(ways)):
            answer = self._children.ask(way, pairs)
            if answer is None:
                continue
            if way == CEILING:
                self._gflops.append(answer.scores)
                continue
            cell.answers[way].append(answer)
            cell.memory[way] = self._children.loaded[way].memory()
            scores[way] = answer.scores
        self._compare(cell, scores)

    def calls(self, repeats: int) -> list[Call]:
        """Return the times of single calls, each with a new query, without the first."""
        seconds: dict[tuple[int, str], list[float]] = defaultdict(list)
        for number in range(repeats + 1):
            for size in CALL_SIZES:
                ways = [way for way in CALL_WAYS if way in self._children.loaded]
                pairs = self._collection.call(KINDS["short"], size, self._chance).pairs
                for way in self._chance.sample(ways, len(ways)):
                    answer = self._children.ask(way, pairs)
                    if answer is not None and number:
                        seconds[size, way].append(answer.seconds)
        return [
            Call(self._shape.name, size, way, Spread.of([each * 1000 for each in times]))
            for (size, way), times in seconds.items()
        ]

    def ceiling(self) -> Ceiling:
        """Return the speed of the machine's matrix products, measured between the ways."""
        linear, packed = (Spread.of(each) for each in zip(*self._gflops, strict=True))
        return Ceiling(self._shape.name, linear, packed, max(linear.median, packed.median))

    def scored(self) -> list[Scored]:
        """Return the results of all ways that did not fail, fastest first per kind of documents."""
        gflops = self.ceiling().gflops
        return [record for cell in self._cells for record in self._records(cell, gflops)]

    def _compare(self, cell: _Cell, scores: dict[str, list[float]]) -> None:
        right = scores.get(REFERENCE)
        if right is None:
            raise RuntimeError(
                f"there are no scores to compare with, because {WAYS[REFERENCE].title} failed"
            )
        for way, given in scores.items():
            if len(given) != len(right):
                self._children.fail(
                    way,
                    f"returned {counted(len(given), 'score')} for {counted(len(right), 'pair')}",
                )
                continue
            apart = max(
                abs(a - b) if math.isfinite(a) else math.inf
                for a, b in zip(given, right, strict=True)
            )
            cell.differences[way] = max(cell.differences[way], apart)

    def _records(self, cell: _Cell, gflops: float) -> list[Scored]:
        lengths = [token_lengths(self._folder, pairs) for pairs in cell.repeats]
        work = [useful_flops(self._shape, each) / 1e9 for each in lengths]
        whole = {way: each for way, each in cell.answers.items() if len(each) == len(cell.repeats)}
        seconds = {way: [answer.seconds for answer in answers] for way, answers in whole.items()}
        rates = {
            way: [len(pairs) / each for pairs, each in zip(cell.repeats, times, strict=True)]
            for way, times in seconds.items()
        }
        best = rates[best_predict(rates)]
        records = [
            Scored(
                model=self._shape.name,
                documents=cell.kind.name,
                way=way,
                title=WAYS[way].title,
                int8=WAYS[way].int8,
                pairs=[len(pairs) for pairs in cell.repeats],
                tokens=[sum(each) for each in lengths],
                seconds=times,
                pairs_per_s=Spread.of(rates[way]),
                tokens_per_s=Spread.of(
                    [sum(each) / s for each, s in zip(lengths, times, strict=True)]
                ),
                ratio=Spread.of([a / b for a, b in zip(rates[way], best, strict=True)]),
                share_of_ceiling=Spread.of(
                    [each / s / gflops for each, s in zip(work, times, strict=True)]
                ),
                peak_rss_mb=cell.memory[way].peak_rss_mb,
                pss_mb=cell.memory[way].pss_mb,
                max_difference=cell.differences[way],
                exact=cell.differences[way] <= EXACT,
            )
            for way, times in seconds.items()
        ]
        return sorted(records, key=lambda record: -record.pairs_per_s.median)


def best_predict(rates: dict[str, list[float]]) -> str:
    """Return the fastest batch size of `predict` on this machine."""
    sizes = [way for size in BATCH_SIZES if (way := f"predict-{size}") in rates]
    return max(sizes, key=lambda way: Spread.of(rates[way]).median)
