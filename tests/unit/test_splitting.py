"""Parts of a query, once merged, are the result of one job."""

from __future__ import annotations

import random

import pytest

from contract import jobs
from contract.columns import JobColumns
from contract.errors import InvalidInput, LimitExceeded, MixedModels
from contract.settings import Settings
from contract.store import encoding
from producer.client import merging, splitting
from tests.integration.sample_records import result_of
from worker.engine import ranking

MANY = 10_000


def load(**limits: int) -> Settings:
    return Settings.load(**{"max_pairs_per_job": MANY, **limits})


def job(
    documents: int, text: str = "text", *, top_k: int | None = None, job_id: str = "j"
) -> jobs.Job:
    candidates = tuple(
        jobs.Candidate(id=f"d{place}", text=f"{text} {place}", metadata={"place": place})
        for place in range(documents)
    )
    request = jobs.Request(query="q", query_id="q1", candidates=candidates, top_k=top_k)
    return jobs.Job(id=job_id, requests=(request,))


def scored(made: jobs.Job, scores: dict[str, float], **provenance: object) -> jobs.JobResult:
    """Return the result of a job, ranked as a worker ranks it."""
    (request,) = made.requests
    of_these = [scores[each.id] for each in request.candidates]
    some = result_of(made.id)
    source = {"pairs": made.pairs, "unique_pairs": made.pairs, "truncated": 1, **provenance}
    return some.model_copy(
        update={
            "rankings": (ranking.rank(request, of_these, truncated=1),),
            "provenance": some.provenance.model_copy(update=source),
        }
    )


@pytest.mark.parametrize("seed", range(30))
def test_merged_parts_are_the_ranking_of_the_whole(seed: int) -> None:
    # Given a query whose documents have scores, many of them equal
    random_ = random.Random(seed)
    number = random_.randint(2, 60)
    made = job(number, top_k=random_.choice([None, 1, 3, 100]))
    scores = {f"d{place}": random_.choice([-1.5, 0.0, 0.25, 3e-9]) for place in range(number)}
    # When it is scored in parts
    how = splitting.split(made, load(max_pairs_per_job=random_.randint(1, number - 1)))
    assert how is not None
    parts = splitting.parts(made, how)
    merged = merging.merge_results(how, [scored(part, scores) for part in parts])
    # Then the ranking is the one of the whole
    whole = scored(made, scores)
    assert merged.job_id == made.id
    assert merged.rankings[0].documents == whole.rankings[0].documents
    # And the provenance is that of all parts together
    assert merged.rankings[0].truncated == merged.provenance.truncated == len(parts)
    assert (merged.provenance.pairs, merged.provenance.parts) == (number, len(parts))


@pytest.mark.parametrize("text", ["text", "語" * 20, "\x01" * 40])
@pytest.mark.parametrize("max_bytes", [900, 1_500, 5_000])
def test_parts_are_whole_in_order_and_fit(text: str, max_bytes: int) -> None:
    made, settings = job(40, text), load(max_bytes_per_job=max_bytes, max_pairs_per_job=15)
    how = splitting.split(made, settings)
    assert how is not None
    parts = splitting.parts(made, how)
    assert all(part.pairs <= 15 for part in parts)
    assert all(encoding.encode_job(settings, JobColumns.of(part)) for part in parts)
    (request,) = made.requests
    found = [each for part in parts for each in part.requests[0].candidates]
    assert found == list(request.candidates)


def test_parts_are_of_equal_length() -> None:
    how = splitting.split(job(101), load(max_pairs_per_job=100))
    assert how is not None
    assert how.bounds == (0, 51, 101)
    assert how.part_ids == ("j.1-51", "j.52-101")


@pytest.mark.parametrize("limits", [{"max_pairs_per_job": 5}, {"max_bytes_per_job": 5_000}])
def test_what_fits_is_not_split(limits: dict[str, int]) -> None:
    assert splitting.split(job(5), load(**limits)) is None


def test_a_document_that_no_job_can_hold_is_named() -> None:
    with pytest.raises(
        LimitExceeded, match=r"^document 'd0' of query 'q1' has .*RERANKQ_MAX_BYTES_PER_JOB"
    ):
        splitting.split(job(3, "x" * 3_000), load(max_bytes_per_job=3_000))


def test_an_id_that_leaves_no_room_for_those_of_the_parts_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is too long; the query is split"):
        splitting.split(job(3, job_id="x" * 125), load(max_pairs_per_job=2))


@pytest.mark.parametrize(
    "other",
    [
        {"model": "smaller", "downgraded": True, "reason": "out_of_memory"},
        {"dtype": "float16"},
        {"max_length": 128},
        {"revision": "b" * 40},
        {"model_requested": "another", "model": "another"},
    ],
)
def test_parts_of_different_models_are_not_merged(other: dict[str, object]) -> None:
    known: dict[str, object] = {"revision": "a" * 40}
    made = job(4)
    how = splitting.split(made, load(max_pairs_per_job=2))
    assert how is not None
    first, second = splitting.parts(made, how)
    scores = dict.fromkeys(("d0", "d1", "d2", "d3"), 1.0)
    results = [scored(first, scores, **known), scored(second, scores, **known | other)]
    with pytest.raises(MixedModels) as raised:
        merging.merge_results(how, results)
    assert (raised.value.downgrade is not None) == ("downgraded" in other)


def test_revisions_that_differ_are_named() -> None:
    made = job(4)
    how = splitting.split(made, load(max_pairs_per_job=2))
    assert how is not None
    first, second = splitting.parts(made, how)
    scores = dict.fromkeys(("d0", "d1", "d2", "d3"), 1.0)
    results = [scored(first, scores, revision="aaa"), scored(second, scores, revision="bbb")]
    with pytest.raises(MixedModels, match=r"tokens, revision aaa\), .* tokens, revision bbb\)\. "):
        merging.merge_results(how, results)


@pytest.mark.parametrize(
    ("revisions", "merged"), [(("aaa", "aaa"), "aaa"), (("aaa", None), None), ((None, "aaa"), None)]
)
def test_a_part_of_an_old_worker_has_no_revision_and_is_merged(
    revisions: tuple[str | None, str | None], merged: str | None
) -> None:
    made = job(4)
    how = splitting.split(made, load(max_pairs_per_job=2))
    assert how is not None
    scores = dict.fromkeys(("d0", "d1", "d2", "d3"), 1.0)
    results = [
        scored(part, scores, revision=revision)
        for part, revision in zip(splitting.parts(made, how), revisions, strict=True)
    ]
    assert merging.merge_results(how, results).provenance.revision == merged
