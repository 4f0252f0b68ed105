"""A query with more candidates than a job may have is scored as if it were one job."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.errors import JobConflict, JobFailed, MixedModels, Overloaded, ResultExpired
from contract.jobs import JobState
from contract.settings import Settings
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.columns import ColumnsClient
from producer.formats.records import InvalidLines
from producer.rescore import runner
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.options import Options
from producer.rescore.resume import ResumableJournal
from producer.rescore.staging import Staging
from tests.integration.sample_records import failure_of
from tests.integration.sample_records import result_of as some_result
from tests.integration.stand_ins import StandInWorker
from worker.engine import ranking

DOCUMENTS = [f"document {number}" for number in range(20)]
SMALLER = "cross-encoder/ms-marco-TinyBERT-L-2-v2"
OPTIONS = Options(window=2, pairs_per_job=10)


def scored(made: jobs.Job, **provenance: object) -> jobs.JobResult:
    """Return the result of a job; scores depend on the texts and the model, and many are equal."""
    model = provenance.get("model", made.model or "bundled")
    rankings = []
    for request in made.requests:
        texts = [f"{model} {each.text}" for each in request.candidates]
        scores = [float(zlib.crc32(text.encode()) % 5) for text in texts]
        rankings.append(ranking.rank(request, scores))
    some = some_result(made.id)
    source = {"model": model, "model_requested": made.model or "bundled", "pairs": made.pairs}
    return some.model_copy(
        update={
            "rankings": tuple(rankings),
            "provenance": some.provenance.model_copy(update=source | provenance),
        }
    )


def failing(place: int) -> Callable[[jobs.Job], jobs.Outcome]:
    """Fail the part that contains the document of this position."""

    def outcome(made: jobs.Job) -> jobs.Outcome:
        has_it = any(each.id == str(place) for each in made.requests[0].candidates)
        return failure_of(made.id) if has_it else scored(made)

    return outcome


def downgrading(place: int) -> Callable[[jobs.Job], jobs.Outcome]:
    """Score the part with this position's document with a smaller model, if that is allowed."""

    def outcome(made: jobs.Job) -> jobs.Outcome:
        has_it = any(each.id in (str(place), f"d{place}") for each in made.requests[0].candidates)
        if has_it and made.allow_downgrade:
            return scored(made, model=SMALLER, downgraded=True, reason="out_of_memory")
        return scored(made)

    return outcome


@pytest.fixture
def narrow(settings: Settings) -> Settings:
    """Return settings with which the documents are three jobs."""
    return settings.model_copy(update={"max_pairs_per_job": 7})


@pytest.fixture
def reranker(narrow: Settings) -> Iterator[RerankClient]:
    with RerankClient(narrow) as made:
        yield made


@pytest.fixture
def whole(settings: Settings) -> jobs.JobResult:
    """Return the result of one job."""
    with StandInWorker(settings, scored), RerankClient(settings) as made:
        return made.rerank("q", DOCUMENTS, timeout=30)


def check(found: jobs.JobResult, whole: jobs.JobResult) -> None:
    assert found.documents == whole.documents
    assert (found.provenance.pairs, found.provenance.parts) == (len(DOCUMENTS), 3)
    assert whole.provenance.parts == 1


# As if it were one job


def test_rerank_gives_what_one_job_gives(
    reranker: RerankClient, narrow: Settings, whole: jobs.JobResult
) -> None:
    with StandInWorker(narrow, scored) as worker:
        found = reranker.rerank("q", DOCUMENTS, timeout=30)
    check(found, whole)
    assert sorted(job.pairs for job in worker.taken) == [6, 7, 7]


def test_the_best_of_all_are_the_best_of_the_parts(
    reranker: RerankClient, narrow: Settings, whole: jobs.JobResult
) -> None:
    with StandInWorker(narrow, scored):
        found = reranker.rerank("q", DOCUMENTS, top_k=9, timeout=30)
    assert found.documents == whole.documents[:9]


def test_what_is_submitted_has_one_id_that_stands_for_all(
    reranker: RerankClient, narrow: Settings, whole: jobs.JobResult
) -> None:
    # Given a query that was submitted twice
    job_id = reranker.submit("q", DOCUMENTS, job_id="mine")
    assert reranker.submit("q", DOCUMENTS, job_id="mine") == job_id == "mine"
    status = reranker.status("mine")
    assert (status.state, status.pairs, status.requests) == (JobState.QUEUED, 20, 1)
    # When it is scored
    with StandInWorker(narrow, scored) as worker:
        found = reranker.result("mine", 30)
    # Then each part was scored once, and its id returns the whole, however often
    check(found, whole)
    assert len(worker.taken) == 3
    assert found.job_id == "mine"
    assert reranker.result("mine", 0) == found
    status = reranker.status("mine")
    assert (status.state, status.outcome_kept) == (JobState.DONE, True)
    with pytest.raises(JobConflict):
        reranker.submit("another", DOCUMENTS, job_id="mine")
    # And it is forgotten as a whole
    reranker.forget("mine")
    assert reranker.status().jobs[JobState.DONE] == 4  # including that of `whole`
    reranker.submit("q", DOCUMENTS, job_id="mine")
    assert reranker.status("mine").state is JobState.QUEUED


def test_many_queries_keep_their_order(
    reranker: RerankClient, narrow: Settings, settings: Settings
) -> None:
    def request(number: int, documents: int) -> jobs.Request:
        candidates = tuple(
            jobs.Candidate(id=f"d{place}", text=f"{number} {place}") for place in range(documents)
        )
        return jobs.Request(query="q", query_id=f"q{number}", candidates=candidates)

    requests = [request(number, size) for number, size in enumerate((3, 20, 2, 4, 8))]
    with StandInWorker(settings, scored), RerankClient(settings) as large:
        expected = [
            each for job_id in large.submit_many(requests) for each in large.result(job_id).rankings
        ]
    with StandInWorker(narrow, scored):
        ids = reranker.submit_many(requests)
        found = [each for job_id in ids for each in reranker.result(job_id, 30).rankings]
    assert found == expected


def test_candidates_of_too_many_bytes_are_split_as_well(
    settings: Settings, whole: jobs.JobResult
) -> None:
    short = settings.model_copy(update={"max_bytes_per_job": 450})
    with StandInWorker(short, scored) as worker, RerankClient(short) as reranker:
        found = reranker.rerank("q", DOCUMENTS, timeout=30)
    assert found.documents == whole.documents
    assert len(worker.taken) == found.provenance.parts > 1


def test_the_asyncio_client_gives_what_one_job_gives(
    narrow: Settings, whole: jobs.JobResult
) -> None:
    async def scenario() -> None:
        async with AsyncRerankClient(narrow) as reranker:
            check(await reranker.rerank("q", DOCUMENTS, timeout=30), whole)
            job_id = await reranker.submit("q", DOCUMENTS, job_id="mine")
            check(await reranker.result(job_id, 30), whole)
            assert (await reranker.status("mine")).state is JobState.DONE
            await reranker.forget("mine")

    async def cancelling() -> None:
        async with AsyncRerankClient(narrow) as reranker:
            await reranker.submit("q", DOCUMENTS, job_id="other")
            assert await reranker.cancel("other")
            with pytest.raises(JobFailed, match="cancelled"):
                await reranker.result("other", 30)

    with StandInWorker(narrow, scored):
        asyncio.run(scenario())
    asyncio.run(cancelling())


def test_a_split_that_is_on_record_is_kept_when_the_limits_change(
    reranker: RerankClient, settings: Settings, narrow: Settings, whole: jobs.JobResult
) -> None:
    reranker.submit("q", DOCUMENTS, job_id="mine")
    for limit in (100, 3):
        changed = settings.model_copy(update={"max_pairs_per_job": limit})
        with RerankClient(changed) as other:
            other.submit("q", DOCUMENTS, job_id="mine")
    with StandInWorker(narrow, scored) as worker:
        check(reranker.result("mine", 30), whole)
    assert len(worker.taken) == 3


# What goes wrong


def test_a_part_that_fails_fails_the_whole_and_spares_the_others_their_work(
    reranker: RerankClient, narrow: Settings
) -> None:
    with StandInWorker(narrow, failing(9), at_most=2), pytest.raises(JobFailed) as raised:
        reranker.rerank("q", DOCUMENTS, job_id="mine", timeout=30)
    failure = raised.value.failure
    assert (failure.job_id, failure.code) == ("mine", "scoring_failed")
    assert failure.message == "candidates 8 to 14 of 20: the model failed"
    status = reranker.status()
    assert status.jobs[JobState.QUEUED] == status.jobs[JobState.RUNNING] == 0
    assert reranker.status("mine").state is JobState.FAILED
    assert reranker.count_dead_letters() == 0


def test_a_query_is_cancelled_with_all_its_parts(reranker: RerankClient) -> None:
    reranker.submit("q", DOCUMENTS, job_id="mine")
    assert reranker.cancel("mine")
    assert not reranker.cancel("mine")
    assert reranker.status("mine").state is JobState.CANCELLED
    assert reranker.status().jobs[JobState.QUEUED] == 0


def test_a_query_that_is_refused_midway_leaves_no_part(narrow: Settings) -> None:
    full = narrow.model_copy(update={"max_queue_length": 2})
    with RerankClient(full) as reranker:
        with pytest.raises(Overloaded) as refused:
            reranker.submit("q", DOCUMENTS)
        assert refused.value.submitted == ()
        assert reranker.status().jobs[JobState.QUEUED] == 0


def test_a_part_whose_result_has_expired_is_the_end_of_the_whole(
    reranker: RerankClient, narrow: Settings, store: JobStore, whole: jobs.JobResult
) -> None:
    with StandInWorker(narrow, scored) as worker:
        reranker.rerank("q", DOCUMENTS, job_id="mine", timeout=30)
        store.client.delete(store.schema.keys.outcome("mine.8-14"))
        assert not reranker.status("mine").outcome_kept
        with pytest.raises(ResultExpired):
            reranker.result("mine", 30)
        check(reranker.rerank("q", DOCUMENTS, job_id="mine", timeout=30), whole)
    assert len(worker.taken) == 4


# One model


def smaller(settings: Settings) -> jobs.JobResult:
    with StandInWorker(settings, scored), RerankClient(settings) as made:
        return made.rerank("q", DOCUMENTS, model=SMALLER, timeout=30)


def test_if_a_smaller_model_scores_a_part_it_scores_all(
    reranker: RerankClient, narrow: Settings, settings: Settings
) -> None:
    expected = smaller(settings)
    with StandInWorker(narrow, downgrading(9)):
        found = reranker.rerank("q", DOCUMENTS, timeout=30)
    assert found.documents == expected.documents
    made = found.provenance
    assert (made.model_requested, made.model, made.downgraded) == ("bundled", SMALLER, True)
    assert (made.reason, made.parts) == ("out_of_memory", 3)


def test_if_a_smaller_model_scores_a_part_it_scores_all_for_the_asyncio_client(
    narrow: Settings, settings: Settings
) -> None:
    async def rerank() -> jobs.JobResult:
        async with AsyncRerankClient(narrow) as reranker:
            return await reranker.rerank("q", DOCUMENTS, timeout=30)

    expected = smaller(settings)
    with StandInWorker(narrow, downgrading(9)):
        found = asyncio.run(rerank())
    assert found.documents == expected.documents
    assert found.provenance.downgraded


def test_a_result_is_never_of_two_models(reranker: RerankClient, narrow: Settings) -> None:
    with (
        StandInWorker(narrow, downgrading(9)),
        pytest.raises(MixedModels, match="different models"),
    ):
        reranker.result(reranker.submit("q", DOCUMENTS), 30)


def test_where_the_smaller_model_may_not_be_asked_for_the_query_fails(narrow: Settings) -> None:
    strict = narrow.model_copy(update={"allowed_models": ()})
    with (
        StandInWorker(narrow, downgrading(9)),
        RerankClient(strict) as reranker,
        pytest.raises(MixedModels),
    ):
        reranker.rerank("q", DOCUMENTS, timeout=30)


# A run


def run_file(folder: Path) -> Path:
    source = folder / "in.jsonl"
    lines = []
    for number, size in enumerate((4, 20, 3, 15, 1)):
        candidates = [{"id": f"d{place}", "text": f"{number} {place}"} for place in range(size)]
        lines.append(json.dumps({"query_id": f"q{number}", "query": "q", "candidates": candidates}))
    source.write_text("\n".join(lines))
    return source


def session(
    settings: Settings,
    source: Path,
    output: Path,
    progress: Callable[[Any], object] = lambda _: None,
) -> bytes:
    """Start the command once; return its output."""
    asked = ScoringSettings(model=None, depth=None, top_k=None, allow_downgrade=True)
    with Staging(settings, InvalidLines()) as staging, ColumnsClient(settings) as client:
        staging.load_requests(str(source))
        wanted = Manifest.new(staging.inputs(), asked, OPTIONS.first_pairs_per_job)
        with ResumableJournal(str(output), staging, wanted) as journal:
            runner.rescore(client, journal, OPTIONS, progress)
            journal.write_run(str(output))
            journal.write_results(f"{output}.jsonl")
    return output.read_bytes() + Path(f"{output}.jsonl").read_bytes()


@pytest.mark.parametrize("outcome", [scored, downgrading(9)], ids=["one model", "downgraded"])
def test_a_run_is_the_same_to_the_byte_split_interrupted_or_neither(
    settings: Settings,
    narrow: Settings,
    tmp_path: Path,
    outcome: Callable[[jobs.Job], jobs.Outcome],
) -> None:
    source = run_file(tmp_path)
    with StandInWorker(settings, outcome):
        expected = session(settings, source, tmp_path / "large")
    with StandInWorker(narrow, outcome):
        assert session(narrow, source, tmp_path / "narrow") == expected

    # And if it is interrupted again and again, each time after one more job
    def interrupt_after(number: int) -> Callable[[Any], None]:
        left = iter(range(number))

        def interrupt(_: Any) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        return interrupt

    with StandInWorker(narrow, outcome):
        for number in range(20):
            progress = interrupt_after(number)
            try:
                assert session(narrow, source, tmp_path / "often", progress) == expected
                break
            except KeyboardInterrupt:
                continue
        else:
            pytest.fail("the run does not come to its end")
    with RerankClient(narrow) as reranker:
        status = reranker.status()
    assert status.jobs[JobState.QUEUED] == status.jobs[JobState.RUNNING] == 0


def test_a_part_that_fails_fails_its_query_only(narrow: Settings, tmp_path: Path) -> None:
    def outcome(made: jobs.Job) -> jobs.Outcome:
        unwanted = any(each.text == "1 9" for each in made.requests[0].candidates)
        return failure_of(made.id) if unwanted else scored(made)

    with StandInWorker(narrow, outcome):
        session(narrow, run_file(tmp_path), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    (failed,) = [line for line in lines if "error" in line]
    assert (failed["query_id"], len(lines)) == ("q1", 5)
    assert failed["error"]["message"] == "candidates 8 to 14 of 20: the model failed"
    with RerankClient(narrow) as reranker:
        status = reranker.status()
    assert status.jobs[JobState.QUEUED] == status.jobs[JobState.RUNNING] == 0
