"""The blocking client submits and waits, cancels, looks and forgets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from contract.errors import (
    JobFailed,
    JobNotFound,
    ResultTimeout,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store.blocking import JobStore
from producer.client.blocking import RerankClient
from tests.integration.client_calls import finish
from tests.integration.redis_state import (
    PATIENCE_S,
    await_subscribers,
    messages,
    payload,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, request, result_of
from tests.integration.stand_ins import begin, play_worker

# Submit and wait


def test_rerank_gives_the_result_of_the_job_it_submitted(
    reranker: RerankClient, store: JobStore
) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(play_worker(store, result_of("mine")))
        result = reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=PATIENCE_S)

    assert result == result_of("mine")
    assert result.documents == result.rankings[0].documents


def test_rerank_cancels_a_job_that_is_late(reranker: RerankClient) -> None:
    with pytest.raises(ResultTimeout):
        reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=0.1)

    assert reranker.status("mine").state == JobState.CANCELLED


# Cancelling, looking, forgetting


@pytest.mark.parametrize("started", [False, True], ids=["waiting", "running"])
def test_cancelling_ends_a_job(reranker: RerankClient, store: JobStore, started: bool) -> None:
    # Given a job that has not ended
    job_id = reranker.submit(QUERY, DOCUMENTS)
    if started:
        store.execute(begin(store.schema, job_id))
    # When it is cancelled
    assert reranker.cancel(job_id)
    # Then that is its outcome, even if a worker has a result later
    assert not finish(store, result_of(job_id))
    assert store.execute(begin(store.schema, job_id)).attempts == 0
    with pytest.raises(JobFailed) as cancelled:
        reranker.result(job_id, PATIENCE_S)
    assert cancelled.value.failure.code == "cancelled"
    assert cancelled.value.failure.attempts == int(started)
    assert reranker.status(job_id).state == JobState.CANCELLED


def test_cancelling_an_ended_job_changes_nothing(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    assert not reranker.cancel(job_id)

    assert reranker.result(job_id, PATIENCE_S) == result_of(job_id)
    assert reranker.status(job_id).state == JobState.DONE


def test_cancelling_twice_says_that_it_was_ended(reranker: RerankClient) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    assert [reranker.cancel(job_id), reranker.cancel(job_id)] == [True, False]


def test_cancelling_wakes_those_who_wait(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(reranker.result, job_id, PATIENCE_S)
        await_subscribers(client, settings, 1)
        reranker.cancel(job_id)

        with pytest.raises(JobFailed, match="cancelled by the caller"):
            waiting.result()


def test_status_follows_a_job(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    queued = reranker.status(job_id)
    store.execute(begin(store.schema, job_id))
    running = reranker.status(job_id)
    finish(store, failure_of(job_id))
    failed = reranker.status(job_id)

    assert [each.state for each in (queued, running, failed)] == ["queued", "running", "failed"]
    assert (queued.pairs, queued.requests) == (2, 1)
    assert [each.attempts for each in (queued, running, failed)] == [0, 1, 1]
    assert (running.code, failed.code) == (None, "scoring_failed")


def test_status_of_the_service_counts_jobs_and_messages(
    reranker: RerankClient, store: JobStore
) -> None:
    first, second, _ = (reranker.submit(QUERY, DOCUMENTS) for _ in range(3))
    store.execute(begin(store.schema, first))
    finish(store, result_of(second))

    status = reranker.status()

    assert (status.workers, status.queue_depth, status.unacked) == ((), 3, 0)
    assert status.jobs == {
        JobState.QUEUED: 1,
        JobState.RUNNING: 1,
        JobState.DONE: 1,
        JobState.FAILED: 0,
        JobState.CANCELLED: 0,
    }


def test_a_forgotten_result_cannot_be_read_again(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    reranker.forget(job_id)

    with pytest.raises(JobNotFound):
        reranker.result(job_id, PATIENCE_S)
    assert reranker.status(job_id).state == JobState.DONE


# Settings


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, client: redis.Redis, settings: Settings
) -> None:
    monkeypatch.setenv("RERANKQ_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("RERANKQ_NAMESPACE", settings.namespace)

    with RerankClient() as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)

    assert [message.id for message in messages(client, settings)] == [job_id]


def test_a_redis_url_of_ones_own_replaces_that_of_the_settings(
    client: redis.Redis, settings: Settings
) -> None:
    elsewhere: Settings = Settings.load(
        redis_url="redis://127.0.0.1:1/0", namespace=settings.namespace
    )

    with RerankClient(elsewhere, redis_url=settings.redis_url.get_secret_value()) as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)

    assert [message.id for message in messages(client, settings)] == [job_id]


def test_what_may_not_be_downgraded_says_so_in_its_job(
    reranker: RerankClient, store: JobStore
) -> None:
    strict = reranker.submit(QUERY, DOCUMENTS, allow_downgrade=False)
    (strict_too,) = reranker.submit_many([request()], allow_downgrade=False)
    lenient = reranker.submit(QUERY, DOCUMENTS)

    allowed = [
        store.execute(payload(store.schema, each)).allow_downgrade
        for each in (strict, strict_too, lenient)
    ]
    assert allowed == [False, False, True]
