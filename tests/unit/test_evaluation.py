"""The measures before and after are those computed by hand, over all judged queries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log2
from pathlib import Path
from random import Random

import ir_measures
import pytest

from contract import jobs
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore import evaluation
from producer.rescore.journal import Journal
from producer.rescore.staging import Staging
from tests.unit.test_imports import modules_after

Ranked = dict[str, list[str]]
MODEL = jobs.Provenance(
    model_requested="m",
    model="m",
    attempts=1,
    backend="torch",
    device="cpu",
    dtype="float32",
    max_length=512,
    pairs=1,
    unique_pairs=1,
    tokens=1,
    truncated=0,
    seconds=0.1,
)


@contextmanager
def scored(
    folder: Path, first: Ranked, qrels: str, after: Ranked, depth: int | None = None
) -> Iterator[tuple[Staging, Journal]]:
    """Return queries with the documents in `first`, best first, and then in `after`."""
    (folder / "run").write_text(
        "".join(
            f"{query_id} Q0 {each} {place} {100 - place} t\n"
            for query_id, ids in first.items()
            for place, each in enumerate(ids, start=1)
        )
    )
    (folder / "queries").write_text("".join(f"{each}\tquery\n" for each in first))
    every = {each for ids in first.values() for each in ids}
    (folder / "corpus").write_text("".join(f"{each}\ttext\n" for each in every))
    (folder / "qrels").write_text(qrels)
    with Staging(Settings.load(), InvalidLines(), depth) as staging:
        staging.load_run(*(str(folder / name) for name in ("run", "queries", "corpus")))
        staging.load_qrels(str(folder / "qrels"))
        with Journal(str(folder / "out"), staging) as journal:
            rankings = tuple(ranking(query_id, ids) for query_id, ids in after.items())
            journal.add_result(jobs.JobResult(job_id="j", rankings=rankings, provenance=MODEL))
            yield staging, journal


def ranking(query_id: str, ids: list[str]) -> jobs.Ranking:
    documents = (
        jobs.RankedDocument(id=each, index=0, rank=place, score=-place, relevance=0.5)
        for place, each in enumerate(ids, start=1)
    )
    return jobs.Ranking(query_id=query_id, documents=tuple(documents))


def values(ndcg: float, mrr: float, map_: float) -> object:
    return pytest.approx({"nDCG@10": ndcg, "MRR@10": mrr, "MAP": map_}, abs=1e-6)


def test_the_numbers_are_those_of_a_calculation_by_hand(tmp_path: Path) -> None:
    # Given one query: b of relevance 1 and c of relevance 2, first behind a, then before it
    qrels = "q1 0 b 1\nq1 0 c 2\nq1 0 a 0\n"
    ideal = 2 / log2(2) + 1 / log2(3)
    with scored(tmp_path, {"q1": ["a", "b", "c"]}, qrels, {"q1": ["c", "a", "b"]}) as both:
        measured = evaluation.evaluate(*both)
    assert measured.before == values(
        (1 / log2(3) + 2 / log2(4)) / ideal, 1 / 2, (1 / 2 + 2 / 3) / 2
    )
    assert measured.after == values((2 / log2(2) + 1 / log2(4)) / ideal, 1.0, (1 / 1 + 2 / 3) / 2)
    assert (measured.judged, measured.ranked) == (1, 1)


def test_a_judged_query_without_a_ranking_counts_as_nothing_found(tmp_path: Path) -> None:
    qrels = "q1 0 a 1\nq2 0 a 1\nq3 0 a 1\nq4 0 a 1\n"
    first = {"q1": ["a"], "q2": ["a"], "q7": ["b"]}
    # When q2 was never scored, q3 and q4 are not in the run, and q7 is not judged
    with scored(tmp_path, first, qrels, {"q1": ["a"], "q7": ["b"]}) as both:
        measured = evaluation.evaluate(*both)
    assert (measured.judged, measured.ranked) == (4, 1)
    assert measured.before == measured.after == values(0.25, 0.25, 0.25)


def test_a_failed_query_is_not_ranked(tmp_path: Path) -> None:
    failure = jobs.Failure(job_id="j", code="error", message="m", retryable=False, attempts=1)
    qrels = "q1 0 a 1\nq2 0 a 1\n"
    with scored(tmp_path, {"q1": ["a"], "q2": ["a"]}, qrels, {"q1": ["a"]}) as (staging, journal):
        journal.add_failure(["q2"], failure)
        measured = evaluation.evaluate(staging, journal)
    assert (measured.judged, measured.ranked) == (2, 1)
    assert measured.after == values(0.5, 0.5, 0.5)


def test_ten_places_count_for_ndcg_and_mrr_and_all_of_them_for_map(tmp_path: Path) -> None:
    ids = [f"d{place:02}" for place in range(1, 13)]
    moved = [*ids[:9], ids[10], ids[9], ids[11]]
    with scored(tmp_path, {"q1": ids}, "q1 0 d11 1\n", {"q1": moved}) as both:
        measured = evaluation.evaluate(*both)
    assert measured.before == values(0.0, 0.0, 1 / 11)
    assert measured.after == values(1 / log2(11), 1 / 10, 1 / 10)


def test_documents_below_the_depth_do_not_count_before_either(tmp_path: Path) -> None:
    first = {"q1": ["a", "b", "c"]}
    with scored(tmp_path, first, "q1 0 c 1\n", {"q1": ["b", "a"]}, depth=2) as both:
        assert evaluation.evaluate(*both).before == values(0.0, 0.0, 0.0)


def test_a_relevance_below_zero_is_not_relevant(tmp_path: Path) -> None:
    qrels = "q1 0 a -2\nq1 0 b 1\n"
    with scored(tmp_path, {"q1": ["a", "b"]}, qrels, {"q1": ["b", "a"]}) as both:
        measured = evaluation.evaluate(*both)
    assert (measured.before["MRR@10"], measured.before["MAP"]) == pytest.approx((0.5, 0.5))
    assert measured.after == values(1.0, 1.0, 1.0)


def test_request_lines_are_measured_in_their_order(tmp_path: Path) -> None:
    candidates = [{"id": "a", "text": "t", "score": 1}, {"id": "b", "text": "t", "score": 9}]
    line = {"query_id": "q1", "query": "q", "candidates": candidates}
    (tmp_path / "in").write_text(json.dumps(line))
    (tmp_path / "qrels").write_text("q1 0 b 1\n")
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_requests(str(tmp_path / "in"))
        staging.load_qrels(str(tmp_path / "qrels"))
        with Journal(str(tmp_path / "out"), staging) as journal:
            rankings = (ranking("q1", ["b", "a"]),)
            journal.add_result(jobs.JobResult(job_id="j", rankings=rankings, provenance=MODEL))
            measured = evaluation.evaluate(staging, journal)
    assert (measured.before["MRR@10"], measured.after["MRR@10"]) == (0.5, 1.0)


def random_run(random: Random, scores: Sequence[float]) -> dict[str, float]:
    ids = {f"{random.choice('abDÉ-_1')}{random.randrange(40)}" for _ in range(25)}
    return {each: random.choice(scores) for each in sorted(ids)}


@pytest.mark.parametrize(
    "scores",
    [
        [0.0, 1.0, 2.0],  # many are equal
        [1 + step * 1e-9 for step in range(5)],  # equal in single precision only
        [step * 0.37 - 9 for step in range(50)],
        [0.0, 1e300, -1e300],
    ],
    ids=["equal", "equal in single precision", "different", "beyond single precision"],
)
def test_the_numbers_are_those_of_ir_measures(scores: list[float]) -> None:
    random = Random(1)
    theirs = {
        "nDCG@10": ir_measures.nDCG @ 10,
        "MRR@10": ir_measures.RR @ 10,
        "MAP": ir_measures.AP,
    }
    for _ in range(100):
        run = random_run(random, scores)
        relevance = {each: random.choice([-1, 0, 0, 1, 2]) for each in random_run(random, [0])}
        evaluator = ir_measures.evaluator(list(theirs.values()), {"q": relevance})
        expected = {value.measure: value.value for value in evaluator.iter_calc({"q": run})}
        for name, measure in evaluation.MEASURES.items():
            assert measure(relevance, run) == pytest.approx(expected[theirs[name]], abs=1e-9), name


def test_measuring_needs_no_package_beside_those_of_the_producer() -> None:
    loaded = modules_after("import producer.rescore.evaluation")
    assert "producer.rescore.evaluation" in loaded
    assert loaded & {"numpy", "scipy", "ir_measures"} == set()
