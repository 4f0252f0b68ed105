"""How good a run is, before and after: nDCG@10, MRR@10 and MAP, by ir-measures.

The figures are those that ir-measures gives for the two files: equal scores are in its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from contract.errors import InvalidInput
from producer.journal import Journal
from producer.staging import Staging

#: Evaluated at once: bounds memory, whatever the number of queries.
QUERIES_AT_ONCE = 500


@dataclass(frozen=True)
class Measured:
    """Mean values over all judged queries; a judged query without a ranking counts as 0."""

    judged: int
    #: Judged queries with a ranking.
    ranked: int
    #: By the measure's usual name.
    before: dict[str, float]
    after: dict[str, float]


def require() -> None:
    """Raise `InvalidInput` unless ir-measures is installed."""
    try:
        import ir_measures  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            "--qrels needs ir-measures: install it with pip install 'rerankq[eval]'"
        ) from error


def measure(staging: Staging, journal: Journal) -> Measured:
    """Compare the first stage with what the journal holds, for the queries that are in it."""
    import ir_measures

    measures = {
        "nDCG@10": ir_measures.nDCG @ 10,
        "MRR@10": ir_measures.RR @ 10,
        "MAP": ir_measures.AP,
    }
    sums = {"before": dict.fromkeys(measures, 0.0), "after": dict.fromkeys(measures, 0.0)}
    ranked = 0
    for chunk in _chunks(_judged(staging, journal)):
        ranked += len(chunk)
        qrels = {query_id: judged for query_id, judged, _ in chunk}
        evaluator = ir_measures.evaluator(list(measures.values()), qrels)
        runs = {
            "before": {query_id: dict(staging.first_stage(query_id)) for query_id in qrels},
            "after": {query_id: scores for query_id, _, scores in chunk},
        }
        for when, run in runs.items():
            for value in evaluator.iter_calc(run):
                name = next(name for name, each in measures.items() if each == value.measure)
                sums[when][name] += value.value
    judged = staging.judged_queries()
    means = {
        when: {name: total / judged for name, total in totals.items()}
        for when, totals in sums.items()
    }
    return Measured(judged=judged, ranked=ranked, before=means["before"], after=means["after"])


#: A judged query: its id, the relevance of its documents, the scores of its reranked documents.
Row = tuple[str, dict[str, int], dict[str, float]]


def _judged(staging: Staging, journal: Journal) -> Iterator[Row]:
    for _, line in journal.lines():
        judged = staging.judgments(line["query_id"])
        if judged and "documents" in line:
            scores = {each["id"]: each["score"] for each in line["documents"]}
            yield line["query_id"], judged, scores


def _chunks(rows: Iterator[Row]) -> Iterator[list[Any]]:
    while chunk := list(islice(rows, QUERIES_AT_ONCE)):
        yield chunk
