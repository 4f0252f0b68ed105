"""A submission that fails midway leaves no job with an unknown id behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from contract.errors import InvalidInput, Overloaded, RedisUnavailable, RerankError
from contract.jobs import JobState
from contract.settings import Settings
from producer.client.asynchronous import AsyncRerankClient
from producer.client.batch_submission import SENT_AT_ONCE
from producer.client.blocking import RerankClient
from tests.embedded_redis import embedded_redis
from tests.integration.halting_client import HaltingClient
from tests.integration.redis_state import messages
from tests.integration.sample_records import DOCUMENTS, QUERY, request

#: Each query is a separate job.
REQUESTS = [request(query_id=f"q{number}") for number in range(6)]
#: More than are sent at once, twice.
MANY = [request(query_id=f"q{number}") for number in range(2 * SENT_AT_ONCE + 10)]


@pytest.fixture
def narrow(settings: Settings) -> Settings:
    """Return settings with room for three messages."""
    return settings.model_copy(update={"max_queue_length": 3})


def states(settings: Settings) -> dict[JobState, int]:
    """Return the number of jobs in each state."""
    with RerankClient(settings) as reranker:
        return {state: number for state, number in reranker.status().jobs.items() if number}


def test_many_that_are_refused_midway_are_all_withdrawn(narrow: Settings) -> None:
    with RerankClient(narrow) as reranker, pytest.raises(Overloaded) as refused:
        reranker.submit_many(REQUESTS, pairs_per_job=2)

    assert refused.value.submitted == ()
    assert states(narrow) == {JobState.CANCELLED: 3}


def test_many_that_are_refused_midway_are_all_withdrawn_by_the_asyncio_client(
    narrow: Settings,
) -> None:
    async def submit() -> None:
        async with AsyncRerankClient(narrow) as reranker:
            await reranker.submit_many(REQUESTS, pairs_per_job=2)

    with pytest.raises(Overloaded) as refused:
        asyncio.run(submit())

    assert refused.value.submitted == ()
    assert states(narrow) == {JobState.CANCELLED: 3}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_many_that_are_interrupted_are_all_withdrawn(
    settings: Settings, error: type[BaseException]
) -> None:
    def interrupt() -> None:
        raise error

    with HaltingClient(settings, interrupt) as reranker, pytest.raises(error) as raised:
        reranker.submit_many(MANY, pairs_per_job=2)

    assert raised.value.submitted == ()  # type: ignore[attr-defined]
    assert states(settings) == {JobState.CANCELLED: SENT_AT_ONCE}


@pytest.mark.parametrize("turns", [1, 3, 10, 40, 100])
@pytest.mark.parametrize("call", ["submit", "submit_many", "rerank"])
def test_what_is_cancelled_leaves_no_job_behind(settings: Settings, call: str, turns: int) -> None:
    """Interrupt at any point; a job that is being queued is withdrawn as well."""

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            calls: dict[str, Callable[[], Any]] = {
                "submit": lambda: reranker.submit(QUERY, DOCUMENTS),
                "submit_many": lambda: reranker.submit_many(REQUESTS, pairs_per_job=2),
                "rerank": lambda: reranker.rerank(QUERY, DOCUMENTS),
            }
            work: asyncio.Task[Any] = asyncio.ensure_future(calls[call]())
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            work.cancel()
            ended: Any = (await asyncio.gather(work, return_exceptions=True))[0]
            if not isinstance(ended, BaseException):  # it finished first
                for job_id in [ended] if isinstance(ended, str) else ended:
                    await reranker.cancel(job_id)

    asyncio.run(scenario())

    assert states(settings).keys() <= {JobState.CANCELLED}


def test_who_chose_the_id_is_not_withdrawn_from(settings: Settings) -> None:
    """Keep the job, because another caller may have submitted it as well, and wait for it."""

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
            work = asyncio.ensure_future(reranker.rerank(QUERY, DOCUMENTS, job_id="mine"))
            await asyncio.sleep(0.2)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scenario())

    assert states(settings) == {JobState.QUEUED: 1}


def test_the_error_tells_the_id_of_a_job_that_may_be_queued(
    mute: Settings, settings: Settings, client: redis.Redis
) -> None:
    # Given a Redis that accepts the job but not its message
    with RerankClient(mute) as reranker, pytest.raises(RedisUnavailable) as raised:
        reranker.submit(QUERY, DOCUMENTS)
    # When it is submitted again under the id from the error
    (job_id,) = raised.value.submitted
    with RerankClient(settings) as reranker:
        assert reranker.submit(QUERY, DOCUMENTS, job_id=job_id) == job_id
    # Then it is on the queue once
    assert [message.id for message in messages(client, settings)] == [job_id]
    assert states(settings) == {JobState.QUEUED: 1}


def test_many_of_which_one_cannot_be_sent_are_all_withdrawn(mute: Settings) -> None:
    with RerankClient(mute) as reranker, pytest.raises(RedisUnavailable) as raised:
        reranker.submit_many(REQUESTS, pairs_per_job=2)
    assert raised.value.submitted == ()
    assert states(mute) == {JobState.CANCELLED: len(REQUESTS)}


def test_if_redis_goes_away_midway_the_error_tells_the_ids_so_far(settings: Settings) -> None:
    server = embedded_redis()
    server.start()
    url = f"redis://127.0.0.1:{server.port}/0"
    own = Settings.load(redis_url=url, namespace=settings.namespace, redis_timeout_s=0.5)

    with HaltingClient(own, server.stop) as reranker, pytest.raises(RerankError) as raised:
        reranker.submit_many(MANY, pairs_per_job=2, batch_id="night")

    ids = [f"night.{number}-{number}" for number in range(1, 1 + 2 * SENT_AT_ONCE)]
    assert raised.value.submitted == tuple(ids)
    assert any("may still be queued" in note for note in raised.value.__notes__)


def test_a_wrong_priority_is_found_before_anything_is_sent(settings: Settings) -> None:
    with (
        RerankClient(settings) as reranker,
        pytest.raises(InvalidInput, match=r"priority must be .* not 10"),
    ):
        reranker.submit_many(REQUESTS, priority=10)
    assert states(settings) == {}
