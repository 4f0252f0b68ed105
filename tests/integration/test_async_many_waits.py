"""Any number of waits of the asyncio client share one subscription, and end alone or together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from contract import jobs
from contract.errors import (
    ClientUnusable,
    JobFailed,
    JobNotFound,
    ResultTimeout,
)
from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from tests.integration.client_calls import finish, run, waiting_for
from tests.integration.redis_state import (
    PATIENCE_S,
    await_subscribers,
    subscribers,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, job, request, result_of
from tests.integration.stand_ins import begin
from tests.processes import wait_until


def test_two_hundred_waits_share_one_subscription(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult | BaseException]:
        # Given waits for 200 jobs at once
        ids = await reranker.submit_many([request()] * 200, pairs_per_job=2)
        waits = [asyncio.create_task(reranker.result(job_id, PATIENCE_S)) for job_id in ids]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        # When they end one after the other, every tenth as a failure
        outcomes: list[jobs.Outcome] = [
            failure_of(job_id) if place % 10 == 0 else result_of(job_id, score=float(place))
            for place, job_id in enumerate(ids)
        ]
        for place, outcome in enumerate(outcomes):
            await asyncio.to_thread(finish, store, outcome)
            if place == len(ids) // 2:
                assert subscribers(client, settings) == 1
        ended = await asyncio.gather(*waits, return_exceptions=True)
        # Then there was only one subscription, and each wait got its own outcome
        assert subscribers(client, settings) == 1
        found = [each.failure if isinstance(each, JobFailed) else each for each in ended]
        assert found == outcomes
        return ended

    ended = run(settings, scenario)

    assert sum(isinstance(each, JobFailed) for each in ended) == 20


def test_a_thousand_waits_open_few_connections(
    settings: Settings, client: redis.Redis, store: JobStore
) -> None:
    before = {each["id"] for each in client.client_list()}

    async def scenario(reranker: AsyncRerankClient) -> int:
        ids = [f"j{place}" for place in range(1_000)]
        for job_id in ids:
            store.execute(submissions.accept(store.schema, job(job_id)))
            store.execute(begin(store.schema, job_id))
        waits = [asyncio.create_task(reranker.result(job_id, PATIENCE_S)) for job_id in ids]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        for job_id in ids:
            await asyncio.to_thread(finish, store, result_of(job_id))
        opened = {each["id"] for each in client.client_list()} - before
        await asyncio.gather(*waits)
        return len(opened)

    assert run(settings, scenario) < 50


def test_several_waits_for_one_job_all_get_it(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        waits = [asyncio.create_task(reranker.result("mine", PATIENCE_S)) for _ in range(5)]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        finish(store, result_of("mine"))
        return await asyncio.gather(*waits)

    assert run(settings, scenario) == [result_of("mine")] * 5


def test_two_clients_that_wait_for_one_job_both_get_it(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with AsyncRerankClient(settings) as other:
            waits = [
                asyncio.create_task(each.result("mine", PATIENCE_S)) for each in (reranker, other)
            ]
            await asyncio.to_thread(await_subscribers, client, settings, 2)
            finish(store, result_of("mine"))
            return await asyncio.gather(*waits)

    assert run(settings, scenario) == [result_of("mine")] * 2


def test_a_wait_that_is_cancelled_spares_the_others_for_the_same_job(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        # Given three waits for one job
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        first, second, third = [
            await waiting_for(reranker, "mine", client, settings) for _ in range(3)
        ]
        # When one is cancelled, and another times out
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second, 0.05)
        finish(store, result_of("mine"))
        # Then the third gets the result
        return await third

    assert run(settings, scenario) == result_of("mine")


def test_waits_that_were_given_up_leave_nothing_behind(
    settings: Settings, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        # Given a client that has waited once, and its tasks
        ids = await reranker.submit_many([request()] * 40, pairs_per_job=2)
        with pytest.raises(JobNotFound):
            await reranker.result("unknown", PATIENCE_S)
        before = asyncio.all_tasks()
        # When many waits end early: half are cancelled, half time out
        waits = [asyncio.create_task(reranker.result(job_id, PATIENCE_S)) for job_id in ids[:20]]
        waits += [asyncio.create_task(reranker.result(job_id, 0.1)) for job_id in ids[20:]]
        await asyncio.wait(waits[20:])
        for wait in waits[:20]:
            wait.cancel()
        ended = await asyncio.gather(*waits, return_exceptions=True)
        # Then no task is left, no job is watched, and there is only one subscription
        assert {type(each) for each in ended} == {asyncio.CancelledError, ResultTimeout}
        assert asyncio.all_tasks() == before
        assert not reranker._runner._subscription._inboxes
        assert subscribers(client, settings) == 1

    run(settings, scenario)

    await_subscribers(client, settings, 0)


#: Turns of the event loop in which a wait connects, subscribes, reads, and listens.
MOMENTS = range(60)


async def turns(number: int) -> None:
    """Let the event loop run its other tasks this many times."""
    for _ in range(number):
        await asyncio.sleep(0)


async def ends(task: asyncio.Task[Any]) -> bool:
    """Return whether the task ends by itself; if it does not, force it to end."""
    _, pending = await asyncio.wait([task], timeout=5)
    if pending:
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
        await asyncio.wait([task], timeout=5)
    return not pending


def test_a_wait_can_be_cancelled_at_any_moment(settings: Settings, store: JobStore) -> None:
    """Check that nothing in the wait swallows the cancellation, so that `result` ends in time."""
    store.execute(begin(store.schema, "mine"))

    async def cancelled_after(moment: int) -> bool:
        reranker = AsyncRerankClient(settings)
        wait = asyncio.create_task(reranker.result("mine", None))
        await turns(moment)
        wait.cancel()
        cancelled = await ends(wait)
        await ends(asyncio.create_task(reranker.aclose()))
        return cancelled

    for moment in MOMENTS:
        assert asyncio.run(cancelled_after(moment)), f"not ended when cancelled after {moment}"


def test_a_client_can_be_closed_at_any_moment(settings: Settings, store: JobStore) -> None:
    store.execute(begin(store.schema, "mine"))

    async def closed_after(moment: int) -> bool:
        reranker = AsyncRerankClient(settings)
        wait = asyncio.create_task(reranker.result("mine", None))
        await turns(moment)
        closed = await ends(asyncio.create_task(reranker.aclose()))
        wait.cancel()
        await ends(wait)
        return closed

    for moment in MOMENTS:
        assert asyncio.run(closed_after(moment)), f"not ended when closed after {moment}"


def test_closing_ends_what_still_waits_with_an_error(
    settings: Settings, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> asyncio.Task[jobs.JobResult]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        return await waiting_for(reranker, "mine", client, settings)

    async def close_while_waiting() -> None:
        async with AsyncRerankClient(settings) as reranker:
            wait = await scenario(reranker)
        with pytest.raises(ClientUnusable, match="is closed"):
            await wait

    asyncio.run(close_while_waiting())

    await_subscribers(client, settings, 0)


def test_a_closed_client_leaves_no_connection(client: redis.Redis, settings: Settings) -> None:
    """Check only our connections: those for publishing are kombu's, and shared by the process."""
    before = {each["id"] for each in client.client_list()}

    def left() -> list[str]:
        return [each["name"] for each in client.client_list() if each["id"] not in before]

    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(ResultTimeout):
            await reranker.result("mine", timeout=0.05)
        await reranker.workers(timeout_s=0.05)
        assert "rerankq-client" in left()

    run(settings, scenario)

    wait_until(lambda: "rerankq-client" not in left(), "its connections are closed", within_s=5)
