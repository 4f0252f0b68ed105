"""A ranking holds the best candidates, best first; equal scores keep the first stage's order."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from contract.jobs import Candidate, Request
from contract.jobs import relevance as sigmoid
from worker.engine import ranking


def request(count: int, top_k: int | None = None) -> Request:
    return Request(
        query="a query",
        query_id="q1",
        top_k=top_k,
        candidates=tuple(
            Candidate(id=f"d{place}", text=f"text {place}", metadata={"place": place})
            for place in range(count)
        ),
    )


# Relevance


@pytest.mark.parametrize(
    ("logit", "relevance"),
    [
        (0.0, 0.5),
        (1.0, 0.7310585786300049),
        (-1.0, 0.2689414213699951),
        (8.0, 0.9996646498695336),
        (-20.0, 2.0611536181902037e-09),
    ],
)
def test_relevance_is_the_logistic_function(logit: float, relevance: float) -> None:
    assert sigmoid(logit) == pytest.approx(relevance, rel=1e-12)


@pytest.mark.parametrize(
    ("logit", "relevance"), [(1e4, 1.0), (-1e4, 0.0), (1e308, 1.0), (-1e308, 0.0)]
)
def test_relevance_does_not_overflow_at_either_end(logit: float, relevance: float) -> None:
    assert sigmoid(logit) == relevance


@pytest.mark.parametrize("logit", [0.1, 1.0, 3.7, 12.0])
def test_relevance_of_opposite_logits_adds_up_to_one(logit: float) -> None:
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0, abs=1e-15)


def test_relevance_rises_with_the_logit() -> None:
    relevance = [sigmoid(logit / 4) for logit in range(-60, 60)]
    assert all(lower < higher for lower, higher in pairwise(relevance))


# Order


def test_the_best_score_comes_first() -> None:
    assert ranking.best_indexes([0.5, -3.0, 9.0, 2.0], None) == [2, 3, 0, 1]


def test_equal_scores_keep_the_order_of_the_first_stage() -> None:
    assert ranking.best_indexes([1.0, 2.0, 1.0, 2.0, 1.0, 0.0, -0.0], None) == [1, 3, 0, 2, 4, 5, 6]


def test_order_is_a_stable_sort_of_all_places() -> None:
    draw = random.Random(3)
    scores = [float(draw.randint(0, 20)) for _ in range(300)]
    places = ranking.best_indexes(scores, None)
    assert sorted(places) == list(range(300))
    for place, following in pairwise(places):
        assert (-scores[place], place) < (-scores[following], following)


@pytest.mark.parametrize(
    ("top_k", "places"), [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 0]), (9, [1, 2, 0])]
)
def test_order_is_cut_to_the_best(top_k: int, places: list[int]) -> None:
    assert ranking.best_indexes([1.0, 3.0, 2.0], top_k) == places


def test_no_scores_have_no_order() -> None:
    assert ranking.best_indexes([], None) == []


def test_the_cut_between_equal_scores_goes_to_the_first_stages_best() -> None:
    assert ranking.best_indexes([1.0] * 5, 2) == [0, 1]


# Rankings


def test_a_ranked_document_says_where_it_came_from_and_where_it_stands() -> None:
    documents = ranking.rank(request(3), [0.0, 4.0, -2.0]).documents
    assert [document.id for document in documents] == ["d1", "d0", "d2"]
    assert [document.index for document in documents] == [1, 0, 2]
    assert [document.rank for document in documents] == [1, 2, 3]


def test_a_ranked_document_has_the_raw_logit_and_its_relevance() -> None:
    documents = ranking.rank(request(2), [-7.25, 3.5]).documents
    assert [document.score for document in documents] == [3.5, -7.25]
    assert [document.relevance for document in documents] == pytest.approx(
        [1 / (1 + math.exp(-3.5)), 1 / (1 + math.exp(7.25))]
    )


def test_metadata_comes_back_with_its_document() -> None:
    documents = ranking.rank(request(3), [1.0, 2.0, 3.0]).documents
    assert [document.metadata for document in documents] == [
        {"place": 2},
        {"place": 1},
        {"place": 0},
    ]


def test_a_ranking_names_its_query() -> None:
    assert ranking.rank(request(1), [0.0]).query_id == "q1"


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (2, 2), (3, 3), (50, 3), (None, 3)])
def test_a_ranking_keeps_top_k(top_k: int | None, kept: int) -> None:
    documents = ranking.rank(request(3, top_k), [1.0, 2.0, 3.0]).documents
    assert [document.id for document in documents] == ["d2", "d1", "d0"][:kept]


def test_a_ranking_says_how_many_candidates_were_cut() -> None:
    assert ranking.rank(request(3, top_k=1), [3.0, 2.0, 1.0], truncated=2).truncated == 2
    assert ranking.rank(request(3), [3.0, 2.0, 1.0]).truncated == 0


def test_extreme_logits_make_a_ranking() -> None:
    documents = ranking.rank(request(2), [-3.4e38, 3.4e38]).documents
    assert [(document.id, document.relevance) for document in documents] == [
        ("d1", 1.0),
        ("d0", 0.0),
    ]
