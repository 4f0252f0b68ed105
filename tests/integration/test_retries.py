"""With a setting, the clients sit out a time without Redis instead of raising an error."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.errors import RedisRefused, RedisUnavailable
from contract.settings import Settings
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.publishing import Publisher
from tests.embedded_redis import FaultyRedis
from tests.integration.redis_state import PATIENCE_S, messages
from tests.integration.sample_records import DOCUMENTS, QUERY, request, result_of_job
from tests.integration.stand_ins import StandInWorker

#: How long the server stays away while a call is waiting for it.
AWAY_S = 0.6
REQUESTS = [request(query_id=str(place)) for place in range(50)]


@pytest.fixture
def server() -> Iterator[FaultyRedis]:
    with FaultyRedis(appendonly="yes", appendfsync="always") as made:
        yield made


def patient(server: FaultyRedis, retry_s: float = PATIENCE_S) -> Settings:
    return server.settings().model_copy(update={"redis_retry_s": retry_s})


def test_a_call_goes_on_after_redis_was_away(server: FaultyRedis) -> None:
    settings = patient(server)
    with RerankClient(settings) as reranker, ThreadPoolExecutor(1) as threads:
        # When a submission finds no server, then it waits until there is one
        with server.away():
            submitting = threads.submit(reranker.submit, QUERY, DOCUMENTS)
            time.sleep(AWAY_S)
            assert not submitting.done()
        job_id = submitting.result(PATIENCE_S)

        # When the server goes away during a wait, and a worker comes afterwards
        waiting = threads.submit(reranker.result, job_id, PATIENCE_S)
        with server.away():
            time.sleep(AWAY_S)
            assert not waiting.done()
        with StandInWorker(settings, result_of_job):
            assert waiting.result(PATIENCE_S).job_id == job_id


def test_the_asyncio_client_goes_on_after_redis_was_away(server: FaultyRedis) -> None:
    settings = patient(server)

    async def away(call: asyncio.Future[Any]) -> None:
        """Take the server away for a while, during a call."""
        await asyncio.sleep(0.1)
        with server.away():
            await asyncio.sleep(AWAY_S)
            assert not call.done()

    async def read(reranker: AsyncRerankClient) -> list[str]:
        batch = await reranker.batch("night")
        return [job_id async for job_id, _ in batch.as_completed(PATIENCE_S)]

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            batch = await reranker.submit_many(REQUESTS, batch_id="night", pairs_per_job=2)
            reading = asyncio.ensure_future(read(reranker))
            waiting = asyncio.ensure_future(reranker.result(batch[0], PATIENCE_S))
            await away(asyncio.gather(reading, waiting))
            with StandInWorker(settings, result_of_job):
                assert (await waiting).job_id == batch[0]
                assert sorted(await reading) == sorted(batch)

    asyncio.run(scenario())


def test_a_batch_is_queued_whole_although_redis_is_killed_in_the_middle(
    server: FaultyRedis,
) -> None:
    settings = patient(server)
    stored, gone = threading.Event(), threading.Event()

    class Halting(Publisher):
        """Lets Redis be killed when the second group of jobs is stored, but not sent."""

        groups = 0

        def send_all(self, *arguments: Any) -> None:
            self.groups += 1
            if self.groups == 2:
                stored.set()
                assert gone.wait(PATIENCE_S)
            super().send_all(*arguments)

    with RerankClient(settings) as reranker, ThreadPoolExecutor(1) as threads:
        reranker._publisher = Halting(settings)
        submitting = threads.submit(reranker.submit_many, REQUESTS, pairs_per_job=2)
        assert stored.wait(PATIENCE_S)
        with server.away():
            gone.set()
            time.sleep(AWAY_S)
            assert not submitting.done()
        batch = submitting.result(PATIENCE_S)

        assert [each.id for each in messages(server.admin, settings)] == batch
        assert batch.progress().waiting == len(REQUESTS)


def test_the_wait_for_redis_ends_with_the_error(server: FaultyRedis) -> None:
    with RerankClient(patient(server, 0.5)) as reranker, server.away():
        began = time.monotonic()
        with pytest.raises(RedisUnavailable, match="does not answer"):
            reranker.submit(QUERY, DOCUMENTS)
        assert 0.5 <= time.monotonic() - began < PATIENCE_S


def test_a_command_that_redis_refuses_is_an_error_at_once(server: FaultyRedis) -> None:
    server.admin.acl_setuser("limited", enabled=True, passwords=["+secret"], commands=["+ping"])
    url = server.url.replace("://", "://limited:secret@")
    with RerankClient(patient(server).with_redis_url(url)) as reranker:
        began = time.monotonic()
        with pytest.raises(RedisRefused):
            reranker.submit(QUERY, DOCUMENTS)
        assert time.monotonic() - began < PATIENCE_S / 2
