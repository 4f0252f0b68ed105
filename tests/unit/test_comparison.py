"""The comparison of two models reports what a reader finds in their rankings side by side."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path

import pytest

from contract import jobs
from contract.errors import InvalidInput
from contract.passages import Passages
from contract.settings import Settings
from producer.formats.records import InvalidLines
from producer.rescore import comparison, evaluation, ranking_changes
from producer.rescore.journal import Journal
from producer.rescore.options import Cascade
from producer.rescore.staging import Staging

#: The scores of documents by query.
Scored = dict[str, dict[str, float]]
FAILURE = jobs.Failure(job_id="j", code="bad_scores", message="m", retryable=False, attempts=1)


@contextmanager
def journals(
    folder: Path, a: Scored, b: Scored, qrels: str = ""
) -> Iterator[tuple[Staging, Journal, Journal]]:
    """Yield a collection of these queries, and the journals of two models, a and b."""
    documents = {query: scores for scored in (b, a) for query, scores in scored.items()}
    queries = sorted(documents)
    (folder / "run").write_text(
        "".join(f"{query} Q0 {each} 1 1.0 t\n" for query in queries for each in documents[query])
    )
    (folder / "queries").write_text("".join(f"{query}\ttext of {query}\n" for query in queries))
    every = {each for scores in documents.values() for each in scores}
    (folder / "corpus").write_text("".join(f"{each}\ttext\n" for each in every))
    (folder / "qrels").write_text(qrels)
    with Staging(Settings.load(), InvalidLines()) as collection, ExitStack() as stack:
        collection.load_run(*(str(folder / name) for name in ("run", "queries", "corpus")))
        if qrels:
            collection.load_qrels(str(folder / "qrels"))
        both = []
        for model, scored in (("a", a), ("b", b)):
            journal = stack.enter_context(Journal(str(folder / model), collection))
            for query, scores in scored.items():
                journal.add_result(result(query, scores, model))
            failed = [query for query in queries if query not in scored]
            journal.add_failure(failed, FAILURE)
            both.append(journal)
        yield collection, both[0], both[1]


def result(
    query: str, scores: dict[str, float], model: str, used: str | None = None
) -> jobs.JobResult:
    best_first = sorted(scores.items(), key=lambda each: -each[1])
    documents = (
        jobs.RankedDocument(id=name, index=0, rank=place, score=score, relevance=0.5)
        for place, (name, score) in enumerate(best_first, start=1)
    )
    provenance = jobs.Provenance(
        model_requested=model,
        model=used or model,
        downgraded=used is not None,
        reason="the queue is long" if used else None,
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
    ranking = jobs.Ranking(query_id=query, documents=tuple(documents))
    return jobs.JobResult(job_id="j", rankings=(ranking,), provenance=provenance)


def ids(start: int, stop: int) -> list[str]:
    return [f"d{number:02}" for number in range(start, stop)]


def descending(names: list[str]) -> dict[str, float]:
    """Return scores that rank the documents in this order."""
    return {name: -float(place) for place, name in enumerate(names)}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (ids(0, 20), ids(0, 20), 1.0),
        (ids(0, 20), ids(0, 20)[::-1], 0.0),
        (ids(0, 20), [*ids(3, 20), *ids(0, 3)], 0.7),
        (ids(0, 10), ids(0, 10)[::-1], 1.0),
        (ids(0, 4), ids(0, 4)[::-1], 1.0),
        (["x", "y"], ["x", "z"], 0.5),
        (["x", "y"], ["z", "x", "y"], 0.5),
        (["x"], ["x"], 1.0),
    ],
)
def test_the_overlap_is_the_share_of_the_ten_best(
    a: list[str], b: list[str], expected: float
) -> None:
    assert ranking_changes.overlap(a, b) == pytest.approx(expected)


def test_tau_counts_the_pairs_that_changed_places() -> None:
    # Given random orders of one to thirty documents, compared pair by pair
    random_ = random.Random(3)
    for number in range(2, 31):
        a = ids(0, number)
        b = random_.sample(a, number)
        swapped = sum(b.index(one) > b.index(other) for one, other in combinations(a, 2))
        pairs = number * (number - 1) / 2
        expected = (pairs - 2 * swapped) / pairs
        assert ranking_changes.kendall_tau(a, b) == pytest.approx(expected)


def test_tau_goes_from_the_reverse_to_the_same_and_needs_two_documents() -> None:
    assert ranking_changes.kendall_tau(ids(0, 9), ids(0, 9)) == 1.0
    assert ranking_changes.kendall_tau(ids(0, 9), ids(0, 9)[::-1]) == -1.0
    assert ranking_changes.kendall_tau(["x"], ["x"]) is None


def test_a_change_of_one_query_is_that_of_a_calculation_by_hand() -> None:
    made = ranking_changes.compare_query(
        "q", {"x": 3.0, "y": 2.0, "z": -1.0}, {"y": 2.5, "x": 2.0, "z": -1.25}
    )

    assert (made.query_id, made.documents, made.overlap) == ("q", 3, 1.0)
    assert (made.same_best, made.same_order) == (False, False)
    assert made.tau == pytest.approx(1 / 3)
    assert (made.largest_difference, made.sum_of_differences) == (1.0, 1.75)


def test_only_the_ten_best_make_the_same_order() -> None:
    names = ids(0, 12)
    below, above = [*names[:10], "d11", "d10"], ["d01", "d00", *names[2:]]

    assert ranking_changes.compare_query("q", descending(names), descending(below)).same_order
    assert not ranking_changes.compare_query("q", descending(names), descending(above)).same_order


def test_means_are_of_queries_and_score_differences_of_pairs(tmp_path: Path) -> None:
    # Given twenty documents that turn round, and a single one whose score changes
    a = {"q1": descending(ids(0, 20)), "q2": {"x": 1.0}}
    b = {"q1": descending(ids(0, 20)[::-1]), "q2": {"x": 1.5}}
    with journals(tmp_path, a, b) as each:
        summary = comparison.compare(*each)

    assert (summary.queries, summary.pairs, summary.short) == (2, 21, 1)
    assert (summary.same_best, summary.same_order) == (1, 1)
    assert summary.mean_overlap == 0.5
    assert summary.mean_tau == -1.0
    assert summary.largest_difference == 19.0
    assert summary.mean_difference == pytest.approx((2 * sum(range(1, 20, 2)) + 0.5) / 21)


def test_queries_are_matched_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    random_ = random.Random(8)
    a = {f"q{n:03}": {"x": float(n), "y": n - 1.0} for n in range(300)}
    order = list(a)
    random_.shuffle(order)
    with journals(tmp_path, a, {query: a[query] for query in order}) as each:
        summary = comparison.compare(*each)

    assert (summary.queries, summary.failed) == (300, 0)
    assert (summary.same_order, summary.largest_difference) == (300, 0.0)


def test_the_queries_that_changed_most_are_kept_and_their_texts_found(tmp_path: Path) -> None:
    # Given queries: q1 keeps 9 of its ten best, q2 keeps 8, and so on; q0 keeps its order
    names = ids(0, 20)
    a = {f"q{n}": descending(names) for n in range(9)}
    b = {f"q{n}": descending([*names[n:], *names[:n]]) for n in range(9)}
    with journals(tmp_path, a, b) as (collection, one, other):
        summary = comparison.compare(collection, one, other)
        texts = [collection.query_text(each.query_id) for each in summary.changed]

    assert [each.query_id for each in summary.changed] == ["q8", "q7", "q6", "q5", "q4"]
    assert summary.changed[0].overlap == pytest.approx(0.2)
    assert texts[0] == "text of q8"


def test_where_nothing_changed_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    a = {"q1": descending(ids(0, 20))}
    with journals(tmp_path, a, a) as each:
        assert comparison.compare(*each).changed == []


def test_a_query_that_failed_with_either_model_is_counted_and_named(tmp_path: Path) -> None:
    scores = {"x": 1.0, "y": 0.0}
    a = {"q1": scores, "q2": scores, "q4": scores}
    b = {"q1": scores, "q3": scores, "q4": scores}
    with journals(tmp_path, a, b) as each:
        summary = comparison.compare(*each)

    assert (summary.queries, summary.failed, summary.failed_ids) == (2, 2, ["q2", "q3"])


def test_both_models_are_measured_on_the_queries_that_both_have_scored(tmp_path: Path) -> None:
    # Given a right answer to both queries by a, and one failure of b
    right = {"x": 1.0, "y": 0.0}
    qrels = "q1 0 x 1\nq2 0 x 1\n"
    with journals(tmp_path, {"q1": right, "q2": right}, {"q1": right}, qrels) as each:
        collection, a, b = each
        comparison.compare(*each)
        one, other = evaluation.evaluate(collection, a), evaluation.evaluate(collection, b)

    # Then the failure is no loss of quality, for b alone
    assert one == other
    assert (one.judged, one.ranked) == (2, 1)
    assert comparison.difference(one.after, other.after) == {
        "nDCG@10": 0.0,
        "MRR@10": 0.0,
        "MAP": 0.0,
    }


def test_scores_of_another_model_are_noticed(tmp_path: Path) -> None:
    scores = {"x": 1.0, "y": 0.0}
    with journals(tmp_path, {"q1": scores}, {"q1": scores}) as (collection, a, _):
        assert comparison.find_other_model(a, "a") is None
        assert comparison.find_other_model(a, "b") == "query 'q1' was scored by a, not b"
        with Journal(str(tmp_path / "c"), collection) as journal:
            journal.add_result(result("q1", scores, model="a", used="smaller"))
            said = comparison.find_other_model(journal, "a")
    assert said == "query 'q1' was scored by smaller, not a: the queue is long"


@pytest.mark.parametrize("models", [(), ("a",), ("a", "b", "c"), ("a", "a")])
def test_anything_but_two_models_is_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="--model"):
        comparison.check_models(models)


def test_the_first_model_is_the_one_to_compare_against() -> None:
    assert comparison.check_models(("b", "a")) == ("b", "a")


def test_one_model_is_compared_with_itself_with_passages() -> None:
    how = Passages(tokens=64, stride=32)
    assert comparison.check_models(("a",), None, how) == ("a", "a")
    assert comparison.check_models(("a",), Cascade("b"), how) == ("a", "b")
    with pytest.raises(InvalidInput, match="pass two different models"):
        comparison.check_models(("a", "a"), None, how)
