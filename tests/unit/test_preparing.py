"""A caller's input becomes valid jobs: none too large, and no document lost or moved."""

from __future__ import annotations

import random
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest

from contract import jobs
from contract.errors import InvalidInput, LimitExceeded, ModelNotAllowed
from contract.settings import Settings
from contract.store import submissions
from contract.store.operation import Schema
from producer.client import grouping, preparing, procedures
from producer.client.grouping import prepare_requests


def load(**overrides: Any) -> Settings:
    settings: Settings = Settings.load(**overrides)
    return settings


def request(*texts: str, query_id: str | None = None) -> jobs.Request:
    made = preparing.request("a query", texts or ("a document",), top_k=None)
    return made.model_copy(update={"query_id": query_id})


def some_requests(random_: random.Random, number: int) -> list[jobs.Request]:
    letters = ["x", "é", "語", "😀", '"']
    return [
        request(
            *(
                random_.choice(letters) * random_.randint(0, 80)
                for _ in range(random_.randint(1, 9))
            ),
            query_id=str(place),
        )
        for place in range(number)
    ]


def test_strings_dicts_and_candidates_may_be_mixed_and_get_their_place_as_id() -> None:
    given = jobs.Candidate(id="mine", text="three", score=0.5)
    made = preparing.candidates(
        ["one", {"text": "two", "metadata": {"a": 1}}, given, MappingProxyType({"text": "four"})]
    )
    assert [each.id for each in made] == ["0", "1", "mine", "3"]
    assert [each.text for each in made] == ["one", "two", "three", "four"]
    assert made[1].metadata == {"a": 1}
    assert made[2] is given


def test_documents_may_come_from_a_generator() -> None:
    made = preparing.request("q", (text for text in ("a", "b")), top_k=1)
    assert [each.text for each in made.candidates] == ["a", "b"]
    assert made.top_k == 1


@pytest.mark.parametrize(
    "document",
    [None, 5, b"bytes", ["a"], {}, {"id": "a"}, {"text": None}, {"text": "a", "x": 1}, "\ud800"],
)
def test_a_wrong_document_is_refused_with_its_place(document: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^document 1: "):
        preparing.candidates(["fine", document])


@pytest.mark.parametrize(
    ("query", "documents", "top_k"),
    [("", ["d"], None), (" \n", ["d"], None), ("q", [], None), ("q", ["d"], 0), ("q", ["d"], -1)],
)
def test_a_wrong_request_is_refused(query: str, documents: list[str], top_k: int | None) -> None:
    with pytest.raises(InvalidInput):
        preparing.request(query, documents, top_k=top_k)


def test_documents_with_one_id_are_refused_also_when_one_has_its_place_as_id() -> None:
    with pytest.raises(InvalidInput, match="duplicate candidate id '0'"):
        preparing.request("q", ["a", {"id": "0", "text": "b"}], top_k=None)


def test_a_job_gets_an_id_of_its_own_or_the_callers() -> None:
    ids = {preparing.job([request()], load()).id for _ in range(10)}
    assert len(ids) == 10
    assert preparing.job([request()], load(), job_id="mine").id == "mine"


@pytest.mark.parametrize("job_id", ["a b", "../a", "x" * 129, ""])
def test_a_job_id_that_cannot_stand_in_a_key_is_refused(job_id: str) -> None:
    with pytest.raises(InvalidInput, match=r"^id: "):
        preparing.job([request()], load(), job_id=job_id)


def test_a_job_that_the_limits_refuse_is_not_made() -> None:
    with pytest.raises(LimitExceeded):
        preparing.job([request("a"), request("b")], load(max_pairs_per_job=1))
    with pytest.raises(ModelNotAllowed):
        preparing.job([request()], load(), model="unheard/of")
    with pytest.raises(InvalidInput):
        preparing.job([], load())


@pytest.mark.parametrize("seed", range(20))
def test_packing_keeps_order_and_bounds_and_loses_nothing(seed: int) -> None:
    random_ = random.Random(seed)
    given = some_requests(random_, random_.randint(0, 40))
    max_pairs, max_bytes = random_.randint(1, 30), random_.randint(5_000, 12_000)
    groups = list(grouping.pack(iter(given), max_pairs=lambda _: max_pairs, max_bytes=max_bytes))
    assert [each for group in groups for each in group] == given
    for group in groups:
        pairs = sum(len(each.candidates) for each in group)
        size = sum(len(each.model_dump_json().encode()) for each in group)
        assert len(group) == 1 or (pairs <= max_pairs and size <= max_bytes)


@pytest.mark.parametrize(("max_pairs", "max_bytes"), [(10, 10**9), (10**9, 6_000), (10, 6_000)])
def test_packing_makes_no_more_groups_than_the_bounds_need(max_pairs: int, max_bytes: int) -> None:
    given = some_requests(random.Random(4), 60)
    groups = list(grouping.pack(given, max_pairs=lambda _: max_pairs, max_bytes=max_bytes))
    assert len(groups) > 2
    for group, after in pairwise(groups):
        larger = [*group, after[0]]
        pairs = sum(len(each.candidates) for each in larger)
        size = sum(len(each.model_dump_json().encode()) + 1 for each in larger)
        assert pairs > max_pairs or size > max_bytes - grouping.ENVELOPE_BYTES


@pytest.mark.parametrize("letter", ["x", "语"])
def test_jobs_made_of_many_small_requests_are_never_too_many_bytes(letter: str) -> None:
    for length in range(1, 200, 7):
        settings = load(max_bytes_per_job=6_000)
        made = prepare_requests([request(letter * length) for _ in range(90)], settings).jobs
        sizes = [len(each.model_dump_json().encode()) for each in made]
        assert len(sizes) < 90
        assert max(sizes) <= settings.max_bytes_per_job
        assert all(submissions.accept(Schema(settings), each) for each in made)


def test_a_request_of_many_that_is_too_many_bytes_is_found_before_anything_is_sent() -> None:
    requests = [request("small"), request("x" * 9_000)]
    with pytest.raises(LimitExceeded):
        prepare_requests(requests, load(max_bytes_per_job=6_000))


def test_many_requests_become_few_jobs_in_order() -> None:
    made = prepare_requests(
        (request("a", "b", query_id=str(place)) for place in range(10)),
        load(max_pairs_per_job=7),
        model="bundled",
    ).jobs
    assert [each.pairs for each in made] == [6, 6, 6, 2]
    assert [one.query_id for each in made for one in each.requests] == [str(n) for n in range(10)]
    assert {each.model for each in made} == {"bundled"}
    assert len({each.id for each in made}) == 4


@pytest.mark.parametrize(("asked", "jobs_made"), [(2, 6), (100, 2), (None, 2)])
def test_a_size_of_jobs_may_be_asked_for_below_the_limit(asked: int | None, jobs_made: int) -> None:
    settings = load(max_pairs_per_job=6)
    requests = [request("a", "b") for _ in range(6)]
    assert len(prepare_requests(requests, settings, pairs_per_job=asked).jobs) == jobs_made


def test_a_wrong_request_of_many_is_refused_with_its_place() -> None:
    wrong = {"query": "", "candidates": [{"id": "1", "text": "a"}]}
    with pytest.raises(InvalidInput, match=r"^request 1: query: must not be blank"):
        prepare_requests([request(), wrong], load())


def test_no_requests_make_no_jobs() -> None:
    assert prepare_requests([], load()).jobs == ()


def test_a_cancellation_is_a_failure_that_counts_as_cancelled() -> None:
    status = jobs.JobStatus(
        job_id="j",
        state=jobs.JobState.RUNNING,
        pairs=1,
        requests=1,
        attempts=2,
        submitted_at=1.0,
        started_at=2.0,
        ended_at=None,
        code=None,
    )
    made = jobs.cancellation(status, procedures.CANCELLED)
    assert (made.job_id, made.attempts) == ("j", 2)
    assert jobs.JobState.after(made) is jobs.JobState.CANCELLED
