"""Score the passages of documents, and documents by the scores of their passages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from contract.passages import Aggregate, PassageColumns, PassageRow, Passages
from worker.engine.passages import Cut, Cutter
from worker.engine.protocol import BeforeBatch, Engine, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.unique_pairs import ScoredPairs, score_unique

#: Passages that are scored at once, to limit memory; one document may add more.
PASSAGES_AT_ONCE = 10_000

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Portion:
    """Some pairs, with the passages of their documents."""

    cuts: list[Cut] = field(default_factory=list)
    #: The query and the text of each passage.
    passages: list[Pair] = field(default_factory=list)


@dataclass(frozen=True)
class _Documents:
    """The score of each distinct pair, and the passage that it is from."""

    scores: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    passages: list[PassageRow] = field(default_factory=list)

    def add(self, cut: Cut, scores: Scores, lost: int, aggregate: Aggregate) -> None:
        best = int(np.argmax(scores))
        begin, end = cut.bounds[best]
        self.scores.append(_aggregated(scores, aggregate))
        self.lost.append(cut.unread + lost)
        self.passages.append((best, begin, end, len(scores), int(cut.shortened)))


def score_passages(
    how: Passages,
    engine: Engine,
    pairs: Sequence[Pair],
    before_batch: BeforeBatch = do_nothing,
    statistics: BatchStatistics | None = None,
    *,
    small_batches: bool = False,
) -> ScoredPairs:
    """Score each unique pair once, by the passages of its document.

    Equal passages are scored once as well, if they are scored at the same time. Raises `BadScores`
    for invalid scores, and all errors of the engine.
    """
    statistics = statistics or BatchStatistics()
    numbers: dict[Pair, int] = {}
    unique = [numbers.setdefault((query, text), len(numbers)) for query, text in pairs]
    documents = _Documents()
    scored = tokens = 0
    for portion in _portions(Cutter(engine, how), numbers, before_batch):
        of_portion = BatchStatistics()
        try:
            found = score_unique(
                engine, portion.passages, before_batch, of_portion, small_batches=small_batches
            )
        finally:
            statistics.add(of_portion)
        scored, tokens = scored + found.unique_pairs, tokens + found.tokens
        scores, end = np.array(found.logits, np.float64), 0
        for cut in portion.cuts:
            begin, end = end, end + len(cut.bounds)
            # A long query loses the same tokens next to each passage.
            lost = max(found.lost[begin:end])
            documents.add(cut, scores[begin:end], lost, how.aggregate)
    return ScoredPairs(
        logits=[documents.scores[number] for number in unique],
        unique_pairs=len(numbers),
        tokens=tokens,
        lost=[documents.lost[number] for number in unique],
        passages=PassageColumns.of_rows([documents.passages[number] for number in unique]),
        passages_scored=scored,
    )


def _portions(
    cutter: Cutter, pairs: Iterable[Pair], before_batch: BeforeBatch
) -> Iterator[_Portion]:
    """Cut the documents of all pairs, and yield them in portions of a few thousand passages."""
    portion = _Portion()
    for query, text in pairs:
        before_batch()
        cut = cutter.cut(query, text)
        portion.cuts.append(cut)
        portion.passages.extend((query, text[begin:end]) for begin, end in cut.bounds)
        if len(portion.passages) >= PASSAGES_AT_ONCE:
            yield portion
            portion = _Portion()
            cutter.forget()
    if portion.cuts:
        yield portion


def _aggregated(scores: Scores, aggregate: Aggregate) -> float:
    """Return the score of a document from those of its passages."""
    if aggregate == "first":
        return float(scores[0])
    if aggregate == "mean-top2":
        return float(np.sort(scores)[-2:].mean())
    return float(scores.max())
