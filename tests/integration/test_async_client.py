"""The asyncio client submits and waits, cancels, looks and forgets, like the blocking one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from contract import jobs
from contract.errors import (
    JobFailed,
    JobNotFound,
    ResultTimeout,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from tests.integration.client_calls import finish, run, waiting_for
from tests.integration.redis_state import (
    PATIENCE_S,
    messages,
    payload,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, request, result_of
from tests.integration.stand_ins import begin, play_worker

# Submit and wait


def test_rerank_gives_the_result_of_the_job_it_submitted(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        worker = asyncio.create_task(asyncio.to_thread(play_worker(store, result_of("mine"))))
        result = await reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=PATIENCE_S)
        assert await worker
        return result

    assert run(settings, scenario) == result_of("mine")


def test_rerank_cancels_a_job_that_is_late(settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        with pytest.raises(ResultTimeout):
            await reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=0.1)
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.CANCELLED


# Cancelling, looking, forgetting


@pytest.mark.parametrize("started", [False, True], ids=["waiting", "running"])
def test_cancelling_ends_a_job(settings: Settings, store: JobStore, started: bool) -> None:
    async def scenario(reranker: AsyncRerankClient) -> JobFailed:
        # Given a job that has not ended
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        if started:
            store.execute(begin(store.schema, "mine"))
        # When it is cancelled, and a worker has a result later
        assert await reranker.cancel("mine")
        assert not finish(store, result_of("mine"))
        # Then it remains cancelled
        assert (await reranker.status("mine")).state == JobState.CANCELLED
        assert not await reranker.cancel("mine")
        with pytest.raises(JobFailed) as cancelled:
            await reranker.result("mine", PATIENCE_S)
        return cancelled.value

    failure = run(settings, scenario).failure

    assert (failure.code, failure.attempts) == ("cancelled", int(started))


def test_cancelling_an_ended_job_changes_nothing(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        finish(store, result_of("mine"))
        assert not await reranker.cancel("mine")
        return await reranker.result("mine", PATIENCE_S)

    assert run(settings, scenario) == result_of("mine")


def test_cancelling_wakes_those_who_wait(settings: Settings, client: redis.Redis) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        await reranker.cancel("mine")
        with pytest.raises(JobFailed, match="cancelled by the caller"):
            await wait

    run(settings, scenario)


def test_status_follows_a_job(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobStatus]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        queued = await reranker.status("mine")
        store.execute(begin(store.schema, "mine"))
        running = await reranker.status("mine")
        finish(store, result_of("mine"))
        return [queued, running, await reranker.status("mine")]

    followed = run(settings, scenario)

    assert [each.state for each in followed] == ["queued", "running", "done"]
    assert [each.attempts for each in followed] == [0, 1, 1]


def test_status_of_the_service_counts_jobs_and_messages(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.QueueStatus:
        for name in ("one", "two", "three"):
            await reranker.submit(QUERY, DOCUMENTS, job_id=name)
        store.execute(begin(store.schema, "one"))
        finish(store, result_of("two"))
        return await reranker.status()

    status = run(settings, scenario)

    assert (status.workers, status.queue_depth, status.unacked) == ((), 3, 0)
    assert sum(status.jobs.values()) == 3
    assert status.jobs[JobState.RUNNING] == 1


def test_a_forgotten_result_cannot_be_read_again(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        finish(store, result_of("mine"))
        await reranker.forget("mine")
        with pytest.raises(JobNotFound):
            await reranker.result("mine", PATIENCE_S)
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.DONE


# Settings


def test_a_redis_url_of_ones_own_replaces_that_of_the_settings(
    client: redis.Redis, settings: Settings
) -> None:
    elsewhere: Settings = Settings.load(
        redis_url="redis://127.0.0.1:1/0", namespace=settings.namespace
    )

    async def scenario() -> str:
        url = settings.redis_url.get_secret_value()
        async with AsyncRerankClient(elsewhere, redis_url=url) as reranker:
            return await reranker.submit(QUERY, DOCUMENTS)

    job_id = asyncio.run(scenario())

    assert [message.id for message in messages(client, settings)] == [job_id]


def test_clients_of_two_threads_have_each_their_own_loop(
    settings: Settings, client: redis.Redis
) -> None:
    def submit(name: str) -> str:
        return run(settings, lambda reranker: reranker.submit(QUERY, DOCUMENTS, job_id=name))

    with ThreadPoolExecutor(2) as threads:
        ids = list(threads.map(submit, ("one", "two")))

    assert ids == ["one", "two"]
    assert sorted(message.id for message in messages(client, settings)) == ["one", "two"]


def test_what_may_not_be_downgraded_says_so_in_its_job(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[str]:
        strict = await reranker.submit(QUERY, DOCUMENTS, allow_downgrade=False)
        many = await reranker.submit_many([request()], allow_downgrade=False)
        return [strict, *many, await reranker.submit(QUERY, DOCUMENTS)]

    ids = run(settings, scenario)

    allowed = [store.execute(payload(store.schema, each)).allow_downgrade for each in ids]
    assert allowed == [False, False, True]
