"""A record can only be made if it can be sent, and it is read as it was written."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from contract import jobs
from contract.errors import BadScores, InvalidInput, JobFailed, JobNotFound

PROVENANCE = jobs.Provenance(
    model_requested="m",
    model="m",
    attempts=1,
    backend="torch",
    device="cpu",
    dtype="float32",
    max_length=512,
    pairs=1,
    unique_pairs=1,
    tokens=9,
    truncated=0,
    seconds=0.1,
)
FAILURE = jobs.Failure(job_id="j", code="bad_scores", message="NaN", retryable=False, attempts=2)


def candidate(**changes: Any) -> dict[str, Any]:
    return {"id": "d1", "text": "a document", **changes}


def request(**changes: Any) -> dict[str, Any]:
    return {"query": "a query", "candidates": [candidate()], **changes}


def job(**changes: Any) -> dict[str, Any]:
    return {"id": "j1", "requests": [request()], **changes}


def result(rankings: int = 1) -> jobs.JobResult:
    document = jobs.RankedDocument(id="d1", index=0, rank=1, score=-1.5, relevance=0.18)
    ranking = jobs.Ranking(query_id=None, documents=(document,))
    return jobs.JobResult(job_id="j", rankings=(ranking,) * rankings, provenance=PROVENANCE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (request(query=" \t\n"), "query: must not be blank"),
        (request(query=None), "query: "),
        (request(query="half \ud800"), "a lone surrogate"),
        (
            request(candidates=[]),
            "candidates: must not be empty; a request needs at least one candidate",
        ),
        (request(candidates=[candidate(), candidate()]), "duplicate candidate id 'd1'"),
        (request(candidates=[candidate(id="")]), "candidates[0].id: "),
        (request(candidates=[candidate(id=None)]), "candidates[0].id: "),
        (request(candidates=[candidate(text=None)]), "candidates[0].text: "),
        (request(candidates=[candidate(text="half \udc00")]), "a lone surrogate"),
        (request(candidates=[candidate(score=float("nan"))]), "candidates[0].score: "),
        (request(candidates=[candidate(score=float("inf"))]), "candidates[0].score: "),
        (request(candidates=[candidate(metadata={"a": float("inf")})]), "metadata"),
        (request(candidates=[candidate(metadata={"a": object()})]), "metadata"),
        (request(candidates=[candidate(txet="x")]), "candidates[0].txet: unknown field"),
        (request(top_k=0), "top_k: "),
        (request(topk=3), "topk: unknown field"),
        ("a string", "must be an object, not a string"),
        (None, "must be an object, not null"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line_with_its_place(data: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.parse(jobs.Request, data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata", [{"a": "half \ud800"}, {"half \ud800": 1}, {"a": [{"b": "\udfff"}]}]
)
def test_half_a_surrogate_pair_in_metadata_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        jobs.parse(jobs.Candidate, candidate(metadata=metadata))


def test_an_unknown_field_with_a_line_break_in_its_name_is_still_one_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        jobs.parse(jobs.Candidate, candidate(**{"two\nlines": 1}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "job_id", ["a", "7", "A.b_c-d", "x" * 128, pytest.param(jobs.new_job_id(), id="a new one")]
)
def test_a_job_id_may_hold_letters_digits_and_a_few_signs(job_id: str) -> None:
    assert jobs.parse(jobs.Job, job(id=job_id)).id == job_id


@pytest.mark.parametrize(
    "job_id", ["", " ", "a b", "a\n", "-a", ".a", "a/b", "a*", "é", "x" * 129, "a\0", 7]
)
def test_any_other_job_id_is_refused(job_id: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^id: "):
        jobs.parse(jobs.Job, job(id=job_id))


@pytest.mark.parametrize("changes", [{"requests": []}, {"model": ""}, {"priority": 3}])
def test_a_job_without_requests_or_with_odd_fields_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        jobs.parse(jobs.Job, job(**changes))


def test_the_number_of_further_faults_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"\(1 of 3 errors\)$"):
        jobs.parse(jobs.Request, request(query="", top_k=0, nonsense=1))


def test_a_record_of_the_right_kind_is_taken_as_it_is() -> None:
    made = jobs.parse(jobs.Candidate, candidate())
    assert jobs.parse(jobs.Candidate, made) is made


def test_an_empty_document_is_allowed() -> None:
    assert jobs.parse(jobs.Candidate, candidate(text="")).text == ""


def test_records_are_frozen() -> None:
    made = jobs.parse(jobs.Job, job())
    with pytest.raises(ValidationError):
        made.model = "another"  # type: ignore[misc]


def test_pairs_are_counted_over_all_requests() -> None:
    two = request(candidates=[candidate(), candidate(id="d2")])
    assert jobs.parse(jobs.Job, job(requests=[request(), two, two])).pairs == 5


def test_a_job_survives_json_with_every_bit_of_its_scores_and_texts() -> None:
    random_ = random.Random(7)
    texts = ["", "ascii", "größe", "語\u2028語", "😀", 'quo"te\\', "\x00\x1f", "\r\n\t"]
    for _ in range(200):
        candidates = [
            candidate(
                id=f"d{place}",
                text=random_.choice(texts),
                score=random_.choice([None, random_.uniform(-1e3, 1e3), 5e-324, -0.0, 1e308]),
                metadata=random_.choice([None, {}, {"a": [1, None, {"b": "ü"}]}]),
            )
            for place in range(random_.randint(1, 5))
        ]
        made = jobs.parse(jobs.Job, job(requests=[request(candidates=candidates)]))
        assert jobs.Job.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize("outcome", [result(), result(3), FAILURE])
def test_an_outcome_reads_back_as_the_kind_it_was(outcome: jobs.Outcome) -> None:
    assert jobs.OUTCOME.validate_json(outcome.model_dump_json()) == outcome


def test_what_is_neither_result_nor_failure_is_no_outcome() -> None:
    with pytest.raises(ValidationError):
        jobs.OUTCOME.validate_json(b'{"job_id": "j"}')


def test_the_documents_of_a_result_are_those_of_its_one_ranking() -> None:
    assert [each.id for each in result().documents] == ["d1"]
    with pytest.raises(InvalidInput, match="2 rankings"):
        _ = result(2).documents


def test_result_of_gives_a_result_and_raises_everything_else() -> None:
    made = result()
    assert jobs.result_of(made) is made
    with pytest.raises(JobFailed) as failed:
        jobs.result_of(FAILURE)
    assert failed.value.failure is FAILURE
    gone = JobNotFound("gone")
    with pytest.raises(JobNotFound) as caught:
        jobs.result_of(gone)
    assert caught.value is gone


def test_the_record_of_a_failure_says_what_the_error_said() -> None:
    made = BadScores("NaN").as_failure("j", attempts=2)
    assert made == FAILURE


def test_the_state_after_an_outcome_tells_cancelled_from_failed() -> None:
    cancelled = FAILURE.model_copy(update={"code": jobs.CANCELLED})
    states = [jobs.JobState.after(each) for each in (result(), FAILURE, cancelled)]
    assert states == ["done", "failed", "cancelled"]


def test_new_ids_are_valid_and_differ() -> None:
    ids = {jobs.new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(jobs.JOB_ID.fullmatch(each) for each in ids)
