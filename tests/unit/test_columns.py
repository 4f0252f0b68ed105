"""Columns hold what the records hold, with the same restrictions, and are read as written."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from contract import jobs
from contract.columns import JobColumns, ResultColumns
from contract.store.encoding import columns_body, read_columns
from contract.validation import describe
from tests.integration.sample_records import result_of

TEXTS = ["", "ascii", "größe", "語\u2028語", "😀", 'quo"te\\', "\x00\x1f", "\r\n\t", "null", "\x85"]
SCORES = [None, 0.1, 5e-324, -0.0, 1e308, 7.0, -12.625]
METADATA: list[Any] = [None, {}, {"a": [1, None, {"b": 'ü"\n\u2028'}]}, {"n": 1.5}]


def some_job(chance: random.Random, metadata: bool) -> jobs.Job:
    """Return a job with a random number of requests and candidates."""

    def candidate(place: int) -> dict[str, Any]:
        return {
            "id": f"{chance.choice(TEXTS)}{place}",
            "text": chance.choice(TEXTS),
            "score": chance.choice(SCORES),
            "metadata": chance.choice(METADATA) if metadata else None,
        }

    requests = [
        {
            "query": f"{chance.choice(TEXTS)}?",
            "query_id": chance.choice([None, *TEXTS]),
            "top_k": chance.choice([None, 1, 10]),
            "candidates": [candidate(place) for place in range(chance.randint(1, 5))],
        }
        for _ in range(chance.randint(1, 4))
    ]
    return jobs.Job.model_validate(
        {
            "id": "j",
            "requests": requests,
            "model": chance.choice([None, "bundled"]),
            "allow_downgrade": chance.random() < 0.5,
        }
    )


@pytest.mark.parametrize("metadata", [False, True])
def test_a_job_survives_columns_and_their_encoding_in_every_bit(metadata: bool) -> None:
    chance = random.Random(1)
    for _ in range(200):
        made = some_job(chance, metadata)
        columns = JobColumns.of(made)
        assert read_columns(JobColumns, columns_body(columns)) == columns
        assert columns.job() == made
        assert str(columns.job()) == str(made)  # 0.0 and -0.0 are equal


def test_columns_of_a_job_are_hardly_ever_longer_than_its_json() -> None:
    """Splitting uses the length of a job's JSON, with a margin of 100 bytes for each part."""
    chance = random.Random(2)
    for metadata in (True, False) * 100:
        made = some_job(chance, metadata)
        assert len(columns_body(JobColumns.of(made))) < len(made.model_dump_json().encode()) + 20


def test_each_text_is_stored_once() -> None:
    made = some_job(random.Random(3), metadata=False)
    twice = made.model_copy(update={"requests": made.requests * 2})
    assert JobColumns.of(twice).texts == JobColumns.of(made).texts
    assert JobColumns.of(twice).pairs == 2 * made.pairs


def test_a_result_survives_columns_and_their_encoding_in_every_bit() -> None:
    chance = random.Random(4)
    for _ in range(200):
        made = some_result(chance)
        columns = ResultColumns.of(made)
        assert read_columns(ResultColumns, columns_body(columns)) == columns
        assert str(columns.result()) == str(made)


def some_result(chance: random.Random) -> jobs.JobResult:
    """Return a result with a random number of rankings and documents, which may be none."""

    def document(place: int) -> dict[str, Any]:
        score = chance.uniform(-30, 30)
        return {
            "id": f"{chance.choice(TEXTS)}{place}",
            "index": chance.randrange(100),
            "rank": place,
            "score": score,
            "relevance": jobs.relevance(score),
            "metadata": chance.choice(METADATA),
        }

    rankings = [
        {
            "query_id": chance.choice([None, *TEXTS]),
            "documents": [document(place) for place in range(1, chance.randint(1, 5))],
            "truncated": chance.randrange(3),
        }
        for _ in range(chance.randint(1, 4))
    ]
    return jobs.JobResult.model_validate(
        {"job_id": "j", "rankings": rankings, "provenance": result_of("j").provenance}
    )


def fields(**changes: Any) -> dict[str, Any]:
    """Return the columns of a job with two queries and three candidates, with changes."""
    return {
        "id": "j",
        "queries": ["one", "two"],
        "counts": [2, 1],
        "ids": ["a", "b", "a"],
        "text_indexes": [0, 1, 0],
        "texts": ["A", "B"],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "not an id"}, "id: a job id must have"),
        ({"model": ""}, "model: must not be empty"),
        ({"surprise": 1}, "surprise: unknown field"),
        ({"ids": ["a", "b", 3]}, "ids[2]: must be a string, not a number"),
        ({"scores": [1.0, None, float("nan")]}, "scores[2]: must be a finite number"),
        ({"queries": ["one", " \n"]}, "requests[1].query: must not be blank"),
        ({"queries": ["one", "\ud800"]}, "requests[1].query: must not contain a lone surrogate"),
        ({"query_ids": [None, "\ud800"]}, "requests[1].query_id: must not contain a lone"),
        ({"texts": ["A", "\udc00"]}, "requests[0].candidates[1].text: must not contain a lone"),
        ({"ids": ["a", "", "a"]}, "requests[0].candidates[1].id: must not be empty"),
        ({"ids": ["a", "a", "a"]}, "requests[0]: duplicate candidate id 'a'"),
        ({"top_ks": [None, 0]}, "requests[1].top_k: must be at least 1"),
        (
            {"counts": [3, 0], "ids": ["a", "b", "c"]},
            "requests[1].candidates: must not be empty; a request needs",
        ),
        (
            {"queries": [], "counts": [], "ids": [], "text_indexes": [], "texts": []},
            "requests: must not be empty; a job needs at least one request",
        ),
        ({"counts": [2, 2]}, "counts: must add up to 3"),
        ({"counts": [4, -1]}, "counts: must add up to 3"),
        ({"counts": [3]}, "counts: must have 2 entries, not 1"),
        ({"query_ids": ["q"]}, "query_ids: must have 2 entries, not 1"),
        ({"text_indexes": [0, 1]}, "text_indexes: must have 3 entries, not 2"),
        ({"text_indexes": [0, 1, 2]}, "text_indexes: must be from 0 to 1"),
        ({"text_indexes": [0, -1, 0]}, "text_indexes: must be from 0 to 1"),
        ({"scores": [1.0]}, "scores: must have 3 entries, not 1"),
        ({"metadata": [None, "{}", "[]"]}, "metadata[2]: must be a JSON object"),
        ({"metadata": [None, "{}", "null"]}, "metadata[2]: must be a JSON object"),
        ({"metadata": [None, "{\n}", None]}, "metadata[1]: must be a JSON object in one line"),
        ({"metadata": [None, '{"a": NaN}', None]}, "metadata[1]: must be a JSON object"),
        ({"metadata": [None, '{"a": "\ud800"}', None]}, "metadata[1]: must be a JSON object"),
    ],
)
def test_wrong_columns_are_refused_in_one_line_with_the_place(
    changes: dict[str, Any], said: str
) -> None:
    assert JobColumns(**fields()).pairs == 3
    with pytest.raises(ValidationError) as caught:
        JobColumns(**fields(**changes))
    assert describe(caught.value).startswith(said)
    assert "\n" not in describe(caught.value)
