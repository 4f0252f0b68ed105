"""Jobs with one id for all of them, the place of a job in the queue, and the trace of a job."""

from __future__ import annotations

import json

import pytest
import redis

from contract import jobs, names
from contract.errors import InvalidInput, JobConflict, JobNotFound, Overloaded
from contract.settings import Settings
from producer.client.blocking import RerankClient
from producer.client.worker_inspector import WorkerReadiness
from tests.integration.redis_state import messages
from tests.integration.sample_records import request, result_of_job
from tests.integration.stand_ins import StandInWorker, answering_worker

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def requests(count: int) -> list[jobs.Request]:
    return [request(documents=2, query_id=str(place)) for place in range(count)]


def test_jobs_can_have_one_id_for_all_of_them(reranker: RerankClient, settings: Settings) -> None:
    # Given three requests in two jobs
    part_ids = reranker.submit_many(requests(3), batch_id="night", pairs_per_job=4)

    # Then the id refers to both
    assert part_ids == ["night.1-2", "night.3-3"]
    assert reranker.parts("night") == tuple(part_ids)
    status = reranker.status("night")
    assert (status.state, status.requests, status.pairs) == (jobs.JobState.QUEUED, 3, 6)
    with pytest.raises(InvalidInput, match="is a batch"):
        reranker.result("night", timeout=5)

    # And their results are those of each
    with StandInWorker(settings, result_of_job):
        found = [reranker.result(each, timeout=10) for each in part_ids]
    assert [len(each.rankings) for each in found] == [2, 1]
    assert reranker.status("night").state is jobs.JobState.DONE


def test_a_batch_that_has_begun_is_running(reranker: RerankClient, settings: Settings) -> None:
    reranker.submit_many(requests(2), batch_id="night", pairs_per_job=2)

    with StandInWorker(settings, result_of_job, at_most=1):
        reranker.result("night.1-1", timeout=10)

    assert reranker.status("night").state is jobs.JobState.RUNNING
    assert reranker.cancel("night")
    assert reranker.status("night").state is jobs.JobState.CANCELLED


def test_the_same_batch_is_queued_once_and_other_contents_are_a_conflict(
    reranker: RerankClient, settings: Settings, client: redis.Redis
) -> None:
    for _ in range(2):
        reranker.submit_many(requests(2), batch_id="night")

    for other in (requests(1), requests(3), [*requests(1), request(query_id="other")]):
        with pytest.raises(JobConflict, match="night"):
            reranker.submit_many(other, batch_id="night")

    assert [each.id for each in messages(client, settings)] == ["night.1-2"]


def test_a_batch_is_queued_whole_or_not_at_all(settings: Settings) -> None:
    narrow = settings.model_copy(update={"max_queue_length": 1})
    with RerankClient(narrow) as reranker:
        with pytest.raises(Overloaded):
            reranker.submit_many(requests(2), batch_id="night", pairs_per_job=2)

        for part_id in ("night.1-1", "night.2-2"):
            with pytest.raises(JobNotFound):
                reranker.result(part_id, timeout=1)


@pytest.mark.parametrize("batch_id", ["", "not an id", "n" * 128])
def test_an_id_that_no_batch_can_have_is_refused(reranker: RerankClient, batch_id: str) -> None:
    with pytest.raises(InvalidInput):
        reranker.submit_many(requests(1), batch_id=batch_id)


def test_a_batch_of_nothing_is_refused(reranker: RerankClient) -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        reranker.submit_many([], batch_id="night")


def test_a_queued_job_has_its_place_in_the_order_of_service(reranker: RerankClient) -> None:
    bulk = reranker.submit("q", ["a"], priority=names.PRIORITY_BULK)
    single = reranker.submit("q", ["a"])
    late = reranker.submit("q", ["a"], priority=names.PRIORITY_BULK)

    places = {each: reranker.status(each).queued_before for each in (bulk, single, late)}

    assert places == {single: 0, bulk: 1, late: 2}
    reranker.cancel(single)
    assert reranker.status(single).queued_before is None


def test_the_trace_of_a_job_is_in_the_headers_of_its_message(
    reranker: RerankClient, settings: Settings, client: redis.Redis
) -> None:
    reranker.submit("q", ["a"], trace=TRACE)
    reranker.submit_many(requests(1), trace=TRACE)

    for message in messages(client, settings):
        headers, _ = json.JSONDecoder().raw_decode(message.text)
        assert headers["headers"]["traceparent"] == TRACE["traceparent"]


@pytest.mark.parametrize("trace", [{"id": "another"}, {"traceparent": "0" * 10_000}])
def test_a_trace_has_only_the_headers_of_a_trace(
    reranker: RerankClient, settings: Settings, client: redis.Redis, trace: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput, match="trace: "):
        reranker.submit("q", ["a"], trace=trace)
    assert messages(client, settings) == []


def test_workers_report_whether_they_have_their_model(
    reranker: RerankClient, settings: Settings
) -> None:
    assert reranker.readiness(0.2) == {}
    with answering_worker(settings, {"children": 2, "ready": 1, "model": "bundled"}):
        assert reranker.readiness(at_most=1) == {"played@test": WorkerReadiness(2, 1, "bundled")}
