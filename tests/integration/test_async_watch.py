"""A watch of the asyncio client waits for several jobs, on the client's one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import redis

from contract import jobs
from contract.errors import ClientUnusable, JobNotFound, RedisUnavailable, ResultTimeout
from contract.settings import Settings
from contract.store import outcomes
from contract.store.blocking import JobStore
from producer.client.async_watch import AsyncWatch
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests.integration.redis_state import PATIENCE_S, await_subscribers, subscribers
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, request, result_of
from tests.integration.stand_ins import unheard

T = TypeVar("T")


def run(settings: Settings, scenario: Callable[[AsyncRerankClient], Awaitable[T]]) -> T:
    """Run a scenario with a new client, and check that none of its tasks is left."""

    async def with_client() -> T:
        async with AsyncRerankClient(settings) as reranker:
            outcome = await scenario(reranker)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcome

    return asyncio.run(with_client())


def finish(store: JobStore, outcome: jobs.Outcome) -> bool:
    """End a job like a worker."""
    return store.execute(outcomes.finish(store.schema, outcome))


def test_a_watch_waits_for_many_jobs_on_one_subscription(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> dict[str, jobs.OutcomeOrError]:
        # Given 200 jobs, and some have ended
        ids = await reranker.submit_many([request()] * 200, pairs_per_job=2)
        for job_id in ids[:50]:
            finish(store, result_of(job_id))

        # When all are awaited, and the others end meanwhile, some as failures
        def work() -> None:
            for place, job_id in enumerate(ids[50:]):
                finish(store, failure_of(job_id) if place % 10 == 0 else result_of(job_id))

        working = asyncio.create_task(asyncio.to_thread(work))
        found: dict[str, jobs.OutcomeOrError] = {}
        async with reranker.watch() as watch:
            while len(found) < len(ids):
                new = await watch.any_of([each for each in ids if each not in found], PATIENCE_S)
                assert new
                assert not new.keys() & found.keys()
                found |= new
            assert subscribers(client, settings) == 1
        await working
        assert set(found) == set(ids)
        return found

    found = run(settings, scenario)

    # Then each has its outcome
    assert sum(isinstance(ended, jobs.Failure) for ended in found.values()) == 15
    await_subscribers(client, settings, 0)


def test_jobs_come_as_they_end(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[tuple[str, jobs.OutcomeOrError]]:
        ids = await reranker.submit_many([request()] * 6, pairs_per_job=2)
        order = [ids[2], ids[0], ids[1]]
        finish(store, result_of(order[0]))
        found = []
        async with reranker.watch() as watch:
            async for job_id, ended in watch.as_completed(ids[:3], PATIENCE_S):
                found.append((job_id, ended))
                if len(found) < len(order):
                    finish(store, result_of(order[len(found)]))
        assert [job_id for job_id, _ in found] == order
        return found

    assert all(isinstance(ended, jobs.JobResult) for _, ended in run(settings, scenario))


def test_jobs_come_as_they_end_to_the_blocking_client_too(
    settings: Settings, store: JobStore
) -> None:
    with RerankClient(settings) as reranker:
        ids = reranker.submit_many([request()] * 6, pairs_per_job=2)
        order = [ids[2], ids[0], ids[1]]
        finish(store, result_of(order[0]))
        found = []
        with reranker.watch() as watch:
            for job_id, _ in watch.as_completed(ids[:3], PATIENCE_S):
                found.append(job_id)
                if len(found) < len(order):
                    finish(store, result_of(order[len(found)]))
    assert found == order


def test_jobs_that_do_not_end_in_time_are_counted_in_the_error(
    settings: Settings, store: JobStore
) -> None:
    error = "1 of 2 jobs have not ended after 0.3 s"

    async def scenario(reranker: AsyncRerankClient) -> str:
        await reranker.submit(QUERY, DOCUMENTS, job_id="late")
        await reranker.submit(QUERY, DOCUMENTS, job_id="ended")
        finish(store, result_of("ended"))
        async with reranker.watch() as watch:
            ended = watch.as_completed(["late", "ended"], 0.3)
            job_id, _ = await anext(ended)
            with pytest.raises(ResultTimeout, match=error):
                await anext(ended)
        return job_id

    assert run(settings, scenario) == "ended"
    with (
        RerankClient(settings) as reranker,
        reranker.watch() as watch,
        pytest.raises(ResultTimeout, match=error),
    ):
        list(watch.as_completed(["late", "ended"], 0.3))


def test_a_watch_gives_nothing_when_nothing_ends_in_time(settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        ids = await reranker.submit_many([request()] * 2, pairs_per_job=2)
        async with reranker.watch() as watch:
            assert await watch.any_of(ids, 0.1) == {}
            assert await watch.any_of(ids, 0) == {}

    run(settings, scenario)


def test_a_watch_gives_an_unknown_job_as_not_found(settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> dict[str, jobs.OutcomeOrError]:
        async with reranker.watch() as watch:
            return await watch.any_of(["unknown"], PATIENCE_S)

    assert isinstance(run(settings, scenario)["unknown"], JobNotFound)


def test_a_job_that_ends_between_two_waits_is_not_missed(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> dict[str, jobs.OutcomeOrError]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with reranker.watch() as watch:
            assert await watch.any_of(["mine"], 0) == {}
            finish(store, result_of("mine"))
            return await watch.any_of(["mine"], PATIENCE_S)

    assert run(settings, scenario) == {"mine": result_of("mine")}


def test_a_lost_done_message_is_made_up_for_by_reading(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> dict[str, jobs.OutcomeOrError]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with reranker.watch() as watch:
            assert await watch.any_of(["mine"], 0) == {}
            store.execute(outcomes.finish(unheard(settings), result_of("mine")))
            return await watch.any_of(["mine"], PATIENCE_S)

    assert run(settings, scenario) == {"mine": result_of("mine")}


async def waiting(
    watch: AsyncWatch, client: redis.Redis, settings: Settings
) -> asyncio.Task[object]:
    """Return a task that waits for a job on the client's subscription."""
    task: asyncio.Task[object] = asyncio.create_task(watch.any_of(["mine"], None))
    await asyncio.to_thread(await_subscribers, client, settings, 1)
    return task


def test_a_wait_that_is_cancelled_spares_the_watch_and_others(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[object]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with reranker.watch() as one, reranker.watch() as other:
            given_up = await waiting(one, client, settings)
            patient = await waiting(other, client, settings)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            finish(store, result_of("mine"))
            return [await one.any_of(["mine"], PATIENCE_S), await patient]

    assert run(settings, scenario) == [{"mine": result_of("mine")}] * 2


def test_closing_ends_a_wait_with_an_error(settings: Settings, client: redis.Redis) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with reranker.watch() as watch:
            wait = await waiting(watch, client, settings)
            await reranker.aclose()
            with pytest.raises(ClientUnusable, match="is closed"):
                await wait
            with pytest.raises(ClientUnusable, match="is closed"):
                await watch.any_of(["mine"], None)

    run(settings, scenario)
    await_subscribers(client, settings, 0)


def test_a_watch_outlives_its_subscription(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    """Subscribe again at the next wait, and read what has ended since."""

    async def scenario(reranker: AsyncRerankClient) -> dict[str, jobs.OutcomeOrError]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with reranker.watch() as watch:
            # Given a wait that ends because the listening task is cancelled
            wait = await waiting(watch, client, settings)
            while not wait.done():  # redis-py may lose a cancellation
                for task in asyncio.all_tasks() - {asyncio.current_task(), wait}:
                    task.cancel()
                await asyncio.wait([wait], timeout=0.1)
            with pytest.raises(RedisUnavailable):
                await wait
            # When the job ends before the next wait
            finish(store, result_of("mine"))
            # Then the next wait returns its outcome
            return await watch.any_of(["mine"], PATIENCE_S)

    assert run(settings, scenario) == {"mine": result_of("mine")}
