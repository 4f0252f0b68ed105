"""The asyncio client returns the one outcome of a job, also if a notification is lost."""

from __future__ import annotations

import asyncio

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
from contract.store import outcomes, submissions
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from tests.integration.client_calls import finish, run, waiting_for
from tests.integration.redis_state import (
    PATIENCE_S,
    messages,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, job, result_of
from tests.integration.stand_ins import begin, busy_channel, play_worker, unheard


def test_result_gives_what_was_recorded_before_it_waited(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult]:
        job_id = await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        finish(store, result_of(job_id))
        return [await reranker.result(job_id, PATIENCE_S) for _ in range(2)]

    assert run(settings, scenario) == [result_of("mine")] * 2


@pytest.mark.parametrize("timeout", [PATIENCE_S, None], ids=["limited", "for ever"])
def test_result_gives_what_is_recorded_while_it_waits(
    settings: Settings, store: JobStore, timeout: float | None
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        job_id = await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        worker = asyncio.create_task(asyncio.to_thread(play_worker(store, result_of(job_id))))
        result = await reranker.result(job_id, timeout)
        assert await worker
        return result

    assert run(settings, scenario) == result_of("mine")


def test_result_with_no_time_gives_what_is_there(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        job_id = await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(ResultTimeout):
            await reranker.result(job_id, timeout=0)
        finish(store, result_of(job_id))
        return await reranker.result(job_id, timeout=0)

    assert run(settings, scenario) == result_of("mine")


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_failure_is_raised_with_its_record(
    settings: Settings, store: JobStore, when: str
) -> None:
    failure = failure_of("mine", "out_of_memory")

    async def scenario(reranker: AsyncRerankClient) -> JobFailed:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        if when == "before":
            finish(store, failure)
            worker = asyncio.create_task(asyncio.sleep(0, result=True))
        else:
            worker = asyncio.create_task(asyncio.to_thread(play_worker(store, failure)))
        with pytest.raises(JobFailed) as raised:
            await reranker.result("mine", PATIENCE_S)
        assert await worker
        return raised.value

    raised = run(settings, scenario)

    assert raised.failure == failure
    assert str(raised) == "job mine failed (out_of_memory): the model failed"


def test_without_a_worker_result_times_out_and_the_job_stays(
    client: redis.Redis, settings: Settings
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(ResultTimeout, match=r"mine is still queued after 0\.2 s"):
            await reranker.result("mine", timeout=0.2)
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.QUEUED
    assert [message.id for message in messages(client, settings)] == ["mine"]


def test_a_job_that_was_late_can_be_waited_for_again(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        store.execute(begin(store.schema, "mine"))
        with pytest.raises(ResultTimeout, match="still running"):
            await reranker.result("mine", timeout=0.1)
        finish(store, result_of("mine"))
        return await reranker.result("mine", PATIENCE_S)

    assert run(settings, scenario) == result_of("mine")


def test_an_unknown_job_is_not_found_rather_than_waited_for(settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        with pytest.raises(JobNotFound, match="unknown"):
            await reranker.result("unknown", timeout=None)
        with pytest.raises(JobNotFound):
            await reranker.status("unknown")
        with pytest.raises(JobNotFound):
            await reranker.cancel("unknown")

    run(settings, scenario)


def test_an_outcome_that_cannot_be_read_is_raised_and_spares_the_others(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult | BaseException]:
        for job_id in ("bad", "good"):
            store.execute(submissions.accept(store.schema, job(job_id)))
            finish(store, result_of(job_id))
        client.set(store.schema.keys.outcome("bad"), b"garbage", ex=60)
        waits = (reranker.result(job_id, PATIENCE_S) for job_id in ("bad", "good"))
        return await asyncio.gather(*waits, return_exceptions=True)

    bad, good = run(settings, scenario)

    assert isinstance(bad, PayloadInvalid)
    assert good == result_of("good")


def test_a_lost_done_message_is_made_up_for_by_reading(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        # Given a waiting caller
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        # When the job ends and its message is lost
        store.execute(outcomes.finish(unheard(settings), result_of("mine")))
        # Then the caller still gets the result
        return await wait

    assert run(settings, scenario) == result_of("mine")


def test_a_lost_done_message_is_made_up_for_while_other_jobs_end_all_the_time(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        with busy_channel(client, settings):
            store.execute(outcomes.finish(unheard(settings), result_of("mine")))
            return await asyncio.wait_for(wait, 12)

    assert run(settings, scenario) == result_of("mine")


@pytest.mark.parametrize("data", [b"another-job", b"", b"\xff\xfe"], ids=["id", "empty", "no text"])
def test_a_foreign_message_on_the_channel_disturbs_nobody(
    settings: Settings, store: JobStore, client: redis.Redis, data: bytes
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        client.publish(names.Keys(settings.namespace).done, data)
        finish(store, result_of("mine"))
        return await asyncio.wait_for(wait, 12)

    assert run(settings, scenario) == result_of("mine")
