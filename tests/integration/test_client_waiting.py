"""The blocking client returns the one outcome of a job to every waiting caller."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from contract import jobs, names
from contract.errors import (
    JobFailed,
    JobNotFound,
    PayloadInvalid,
    ResultTimeout,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import outcomes
from contract.store.blocking import JobStore
from producer.client.blocking import RerankClient
from tests.integration.client_calls import finish
from tests.integration.redis_state import (
    PATIENCE_S,
    await_subscribers,
    messages,
    subscribers,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, request, result_of
from tests.integration.stand_ins import begin, busy_channel, play_worker, unheard
from tests.processes import wait_until

# Waiting


def test_result_gives_what_was_recorded_before_it_waited(
    reranker: RerankClient, store: JobStore
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    assert reranker.result(job_id, PATIENCE_S) == result_of(job_id)


def test_result_can_be_read_again(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    assert reranker.result(job_id) == reranker.result(job_id)


@pytest.mark.parametrize("timeout", [PATIENCE_S, None], ids=["limited", "for ever"])
def test_result_gives_what_is_recorded_while_it_waits(
    reranker: RerankClient, store: JobStore, timeout: float | None
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    with ThreadPoolExecutor(1) as threads:
        worker = threads.submit(play_worker(store, result_of(job_id)))
        result = reranker.result(job_id, timeout)

    assert worker.result()
    assert result == result_of(job_id)


def test_result_with_no_time_gives_what_is_there(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with pytest.raises(ResultTimeout):
        reranker.result(job_id, timeout=0)

    finish(store, result_of(job_id))

    assert reranker.result(job_id, timeout=0) == result_of(job_id)


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_failure_is_raised_with_its_record(
    reranker: RerankClient, store: JobStore, when: str
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    failure = failure_of(job_id, "out_of_memory")

    with ThreadPoolExecutor(1) as threads:
        if when == "before":
            finish(store, failure)
        else:
            threads.submit(play_worker(store, failure))
        with pytest.raises(JobFailed) as raised:
            reranker.result(job_id, PATIENCE_S)

    assert raised.value.failure == failure
    assert str(raised.value) == f"job {job_id} failed (out_of_memory): the model failed"


def test_without_a_worker_result_times_out_and_the_job_stays(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    with pytest.raises(ResultTimeout, match=f"{job_id} is still queued after 0.2 s") as late:
        reranker.result(job_id, timeout=0.2)

    assert isinstance(late.value, TimeoutError)
    assert late.value.retryable
    assert reranker.status(job_id).state == JobState.QUEUED
    assert [message.id for message in messages(client, settings)] == [job_id]


def test_a_job_that_was_late_can_be_waited_for_again(
    reranker: RerankClient, store: JobStore
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    store.execute(begin(store.schema, job_id))
    with pytest.raises(ResultTimeout, match="still running"):
        reranker.result(job_id, timeout=0.1)

    finish(store, result_of(job_id))

    assert reranker.result(job_id, PATIENCE_S) == result_of(job_id)


def test_an_unknown_job_is_not_found_rather_than_waited_for(reranker: RerankClient) -> None:
    with pytest.raises(JobNotFound, match="unknown"):
        reranker.result("unknown", timeout=None)
    with pytest.raises(JobNotFound):
        reranker.status("unknown")
    with pytest.raises(JobNotFound):
        reranker.cancel("unknown")


def test_an_outcome_that_cannot_be_read_is_raised(
    reranker: RerankClient, store: JobStore, client: redis.Redis
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))
    client.set(store.schema.keys.outcome(job_id), b"garbage", ex=60)

    with pytest.raises(PayloadInvalid, match=job_id):
        reranker.result(job_id, PATIENCE_S)


def test_a_lost_done_message_is_made_up_for_by_reading(
    reranker: RerankClient, store: JobStore, settings: Settings
) -> None:
    # Given a wait that found no outcome in its first reading
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with reranker.watch() as watch:
        assert watch.any_of([job_id], 0.1) == {}
        # When the job ends and its message is lost
        store.execute(outcomes.finish(unheard(settings), result_of(job_id)))
        # Then the caller still gets the result
        assert watch.any_of([job_id], PATIENCE_S) == {job_id: result_of(job_id)}


def test_a_lost_done_message_is_made_up_for_while_other_jobs_end_all_the_time(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with ThreadPoolExecutor(1) as threads, reranker.watch() as watch:
        assert watch.any_of([job_id], 0.1) == {}
        store.execute(outcomes.finish(unheard(settings), result_of(job_id)))
        with busy_channel(client, settings):
            waiting = threads.submit(watch.any_of, [job_id], None)
            try:
                assert waiting.result(timeout=12) == {job_id: result_of(job_id)}
            finally:
                client.publish(names.Keys(settings.namespace).done, job_id)


@pytest.mark.parametrize("data", [b"another-job", b"", b"\xff\xfe"], ids=["id", "empty", "no text"])
def test_a_foreign_message_on_the_channel_disturbs_nobody(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings, data: bytes
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with reranker.watch() as watch:
        assert watch.any_of([job_id], 0.1) == {}
        client.publish(names.Keys(settings.namespace).done, data)
        assert watch.any_of([job_id], 0.1) == {}
        finish(store, result_of(job_id))

        assert watch.any_of([job_id], PATIENCE_S) == {job_id: result_of(job_id)}


def test_two_clients_that_wait_for_one_job_both_get_it(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with RerankClient(settings) as other, ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(each.result, job_id, PATIENCE_S) for each in (reranker, other)]
        await_subscribers(client, settings, 2)
        finish(store, result_of(job_id))

        assert [wait.result() for wait in waits] == [result_of(job_id)] * 2


def test_a_wait_that_was_given_up_leaves_no_subscription(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    for _ in range(5):
        with pytest.raises(ResultTimeout):
            reranker.result(job_id, timeout=0.05)

    await_subscribers(client, settings, 0)


def test_a_closed_client_leaves_no_connection(client: redis.Redis, settings: Settings) -> None:
    """Check only our connections: those for publishing are kombu's, and shared by the process."""
    before = {each["id"] for each in client.client_list()}

    def left() -> list[str]:
        return [each["name"] for each in client.client_list() if each["id"] not in before]

    with RerankClient(settings) as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)
        with pytest.raises(ResultTimeout):
            reranker.result(job_id, timeout=0.05)
        reranker.workers(timeout_s=0.05)
        assert "rerankq-client" in left()

    wait_until(lambda: "rerankq-client" not in left(), "its connections are closed", within_s=5)


# Waiting for many


def test_a_watch_waits_for_many_jobs_on_one_subscription(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    # Given 200 jobs, and some have ended
    ids = reranker.submit_many([request()] * 200, pairs_per_job=2)
    for job_id in ids[:50]:
        finish(store, result_of(job_id))
    # When all are awaited, and the others end meanwhile, some as failures
    found: dict[str, jobs.OutcomeOrError] = {}
    with ThreadPoolExecutor(1) as threads, reranker.watch() as watch:
        worker = threads.submit(
            lambda: [
                finish(store, failure_of(job_id) if place % 10 == 0 else result_of(job_id))
                for place, job_id in enumerate(ids[50:])
            ]
        )
        while len(found) < len(ids):
            new = watch.any_of([each for each in ids if each not in found], PATIENCE_S)
            assert new
            assert not new.keys() & found.keys()
            found |= new
            assert subscribers(client, settings) == 1
    # Then each has its outcome
    assert all(worker.result())
    assert set(found) == set(ids)
    assert sum(isinstance(ended, jobs.Failure) for ended in found.values()) == 15


def test_a_watch_gives_nothing_when_nothing_ends_in_time(reranker: RerankClient) -> None:
    ids = reranker.submit_many([request()] * 2, pairs_per_job=2)

    with reranker.watch() as watch:
        assert watch.any_of(ids, 0.1) == {}
        assert watch.any_of(ids, 0) == {}


def test_a_watch_gives_an_unknown_job_as_not_found(reranker: RerankClient) -> None:
    with reranker.watch() as watch:
        found = watch.any_of(["unknown"], PATIENCE_S)

    assert isinstance(found["unknown"], JobNotFound)
