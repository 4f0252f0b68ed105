"""The asyncio client lists, retries and drops dead letters like the blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis

from contract import jobs
from contract.errors import ClientUnusable, JobNotFound, PayloadInvalid, RedisUnavailable
from contract.jobs import JobState
from contract.settings import Settings
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.dead_letters import PAGE_SIZE
from tests.integration.redis_state import messages
from tests.integration.stand_ins import die

T = TypeVar("T")


def run(settings: Settings, scenario: Callable[[AsyncRerankClient], Awaitable[T]]) -> T:
    """Run a scenario with a new client, and check that none of its tasks is left."""

    async def with_client() -> T:
        async with AsyncRerankClient(settings) as reranker:
            outcome = await scenario(reranker)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcome

    return asyncio.run(with_client())


def test_both_clients_list_the_same_dead_letters_the_last_first(
    settings: Settings, store: JobStore
) -> None:
    die(store, *(f"j{number}" for number in range(PAGE_SIZE + 5)))

    async def scenario(reranker: AsyncRerankClient) -> list[list[jobs.DeadLetter]]:
        return [
            await reranker.dead_letters(),
            await reranker.dead_letters(None),
            [letter async for letter in reranker.each_dead_letter()],
            await reranker.dead_letters(2),
            await reranker.dead_letters(0),
        ]

    default, whole, one_by_one, first_two, none = run(settings, scenario)

    with RerankClient(settings) as reranker:
        assert whole == reranker.dead_letters(None) == list(reranker.each_dead_letter())
        assert reranker.dead_letters(2) == first_two
    assert default == whole == one_by_one
    assert len(whole) == PAGE_SIZE + 5
    assert (first_two, none) == (whole[:2], [])


def test_a_dead_letter_is_counted_shown_and_queued_again(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    die(store, "first", "last")

    async def scenario(reranker: AsyncRerankClient) -> tuple[int, jobs.DeadLetter, int]:
        before = await reranker.count_dead_letters()
        letter = await reranker.dead_letter("first")
        await reranker.retry("first")
        assert (await reranker.status("first")).state == JobState.QUEUED
        return before, letter, await reranker.count_dead_letters()

    before, letter, after = run(settings, scenario)

    assert (before, after) == (2, 1)
    assert (letter.job_id, letter.code) == ("first", "scoring_failed")
    assert [message.id for message in messages(client, settings)] == ["first"]


def test_a_dead_letter_that_is_dropped_stays_failed(settings: Settings, store: JobStore) -> None:
    die(store, "mine")

    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        await reranker.drop("mine")
        assert await reranker.count_dead_letters() == 0
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.FAILED


CALLS: dict[str, Callable[[AsyncRerankClient], Awaitable[object]]] = {
    "dead_letter": lambda client: client.dead_letter("nobody"),
    "retry": lambda client: client.retry("nobody"),
    "drop": lambda client: client.drop("nobody"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_job_that_is_no_dead_letter_is_not_found(
    call: Callable[[AsyncRerankClient], Awaitable[object]], settings: Settings
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        with pytest.raises(JobNotFound, match="job nobody is not a dead letter"):
            await call(reranker)

    run(settings, scenario)


def test_a_dead_letter_that_cannot_be_read_is_not_retried(
    settings: Settings, store: JobStore
) -> None:
    die(store, "spoilt")
    store.client.hset(store.schema.keys.job("spoilt"), "ended_at", "yesterday")

    async def scenario(reranker: AsyncRerankClient) -> None:
        assert (await reranker.dead_letter("spoilt")).code == jobs.UNREADABLE
        with pytest.raises(PayloadInvalid, match=r"^dead letter spoilt: cannot read its record"):
            await reranker.retry("spoilt")

    run(settings, scenario)


def test_a_retry_whose_message_cannot_be_sent_has_the_id_in_its_error(
    settings: Settings, store: JobStore, mute: Settings
) -> None:
    die(store, "mine")

    async def scenario(reranker: AsyncRerankClient) -> RedisUnavailable:
        with pytest.raises(RedisUnavailable, match="job mine is queued again, but") as raised:
            await reranker.retry("mine")
        return raised.value

    assert run(mute, scenario).submitted == ("mine",)


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30])
def test_a_retry_that_is_cancelled_comes_to_its_end_or_was_never_begun(
    settings: Settings, store: JobStore, client: redis.Redis, turns: int
) -> None:
    """Publish the message, so that the job does not wait for a worker's sweep."""
    die(store, "mine")

    async def scenario(reranker: AsyncRerankClient) -> None:
        retry = asyncio.create_task(reranker.retry("mine"))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        retry.cancel()
        await asyncio.gather(retry, return_exceptions=True)

    run(settings, scenario)

    with RerankClient(settings) as reranker:
        queued = reranker.count_dead_letters() == 0
    assert [each.id for each in messages(client, settings)] == (["mine"] if queued else [])


def test_a_listing_that_is_cancelled_leaves_the_client_usable(
    settings: Settings, store: JobStore
) -> None:
    die(store, "mine")

    async def scenario(reranker: AsyncRerankClient) -> list[jobs.DeadLetter]:
        listing = asyncio.create_task(reranker.dead_letters())
        await asyncio.sleep(0)
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing
        return await reranker.dead_letters()

    assert [letter.job_id for letter in run(settings, scenario)] == ["mine"]


@pytest.mark.parametrize(
    "call",
    [
        *CALLS.values(),
        lambda client: client.dead_letters(),
        lambda client: client.count_dead_letters(),
        lambda client: anext(client.each_dead_letter()),
    ],
)
def test_a_closed_client_says_so(
    call: Callable[[AsyncRerankClient], Awaitable[Any]], settings: Settings
) -> None:
    async def scenario() -> None:
        reranker = AsyncRerankClient(settings)
        await reranker.aclose()
        with pytest.raises(ClientUnusable, match="is closed"):
            await call(reranker)

    asyncio.run(scenario())
