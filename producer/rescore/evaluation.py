"""Measure the quality of a run before and after re-scoring: nDCG@10, MRR@10 and MAP.

The values equal those that ir-measures computes from the two files, without its dependencies (numpy
and scipy). That includes the order of equal scores. nDCG@10 and MAP follow trec_eval, which
compares scores in single precision and puts the greater id first. MRR@10 follows MS MARCO's script,
which puts the smaller id first.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import log2

from producer.rescore import journal_lines
from producer.rescore.finished_run import FinishedRun
from producer.rescore.ranking_changes import DocumentScores
from producer.rescore.staging import Staging

#: The number of ranks that count for nDCG@10 and MRR@10.
CUTOFF = 10


@dataclass(frozen=True)
class Evaluation:
    """The means over all judged queries; a judged query without a ranking counts as 0."""

    judged: int
    #: The number of judged queries with a ranking.
    ranked: int
    #: The means by the usual names of the measures.
    before: dict[str, float]
    after: dict[str, float]


def evaluate(staging: Staging, journal: FinishedRun) -> Evaluation:
    """Evaluate the first stage and the journal on the queries of the journal."""
    sums = {"before": dict.fromkeys(MEASURES, 0.0), "after": dict.fromkeys(MEASURES, 0.0)}
    ranked = 0
    for query_id, judged, scores in _judged(staging, journal):
        ranked += 1
        runs = {"before": dict(staging.first_stage(query_id)), "after": scores}
        for when, run in runs.items():
            for name, value in MEASURES.items():
                sums[when][name] += value(judged, run)
    queries = staging.judged_queries()
    means = {
        when: {name: total / queries for name, total in totals.items()}
        for when, totals in sums.items()
    }
    return Evaluation(judged=queries, ranked=ranked, before=means["before"], after=means["after"])


def first_stage_name(staging: Staging) -> str:
    """Return what is measured as the first stage: all of it, or the candidates within the depth."""
    return "first stage" if staging.cut_to is None else f"first stage, best {staging.cut_to:,}"


def ndcg(relevance: Relevance, scores: DocumentScores) -> float:
    """Return nDCG@10 of one query, with the relevance as gain; 0 if no document is relevant."""
    gains = _in_trec_order(relevance, scores)
    ideal = _dcg(sorted((max(0, each) for each in relevance.values()), reverse=True))
    return _dcg(gains) / ideal if ideal else 0.0


def reciprocal_rank(relevance: Relevance, scores: DocumentScores) -> float:
    """Return 1 / the rank of the first relevant document among the first ten, or 0."""
    ranked = sorted(scores, key=lambda document: (-scores[document], document))
    for rank, document in enumerate(ranked[:CUTOFF], start=1):
        if relevance.get(document, 0) > 0:
            return 1 / rank
    return 0.0


def average_precision(relevance: Relevance, scores: DocumentScores) -> float:
    """Return the mean precision at the relevant documents; unranked ones count as 0."""
    relevant = sum(each > 0 for each in relevance.values())
    hits = [gain > 0 for gain in _in_trec_order(relevance, scores)]
    precisions = (
        found / rank
        for rank, (hit, found) in enumerate(zip(hits, accumulate(hits), strict=True), start=1)
        if hit
    )
    return sum(precisions) / relevant if relevant else 0.0


def _in_trec_order(relevance: Relevance, scores: DocumentScores) -> list[int]:
    """Return the gains of the ranked documents, at least zero, best score first."""
    ranked = sorted(scores, key=lambda each: (array("f", [scores[each]])[0], each), reverse=True)
    return [max(0, relevance.get(document, 0)) for document in ranked]


def _dcg(gains: list[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains[:CUTOFF], start=1))


#: The relevance of a query's documents by their ids.
Relevance = dict[str, int]

MEASURES = {"nDCG@10": ndcg, "MRR@10": reciprocal_rank, "MAP": average_precision}


def _judged(
    staging: Staging, journal: FinishedRun
) -> Iterator[tuple[str, Relevance, DocumentScores]]:
    """Yield the judged queries in the journal with their judgments and reranked scores."""
    for line in journal.lines():
        judged = staging.judgments(line["query_id"])
        if judged and journal_lines.has_ranking(line):
            yield line["query_id"], judged, dict(journal_lines.scores(line))
