"""Clients follow the primary that Sentinel names, and notice what a failover has lost."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import redis

from contract import jobs
from contract.errors import NotReplicated, RedisUnavailable
from contract.settings import Settings
from contract.store import outcomes
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.cli.loopback import free_port
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.waiting import require_worker
from tests.embedded_redis import embedded_redis
from tests.integration.redis_state import subscribers
from tests.integration.sample_records import DOCUMENTS, QUERY, result_of
from tests.integration.stand_ins import begin
from tests.processes import wait_until
from tests.sentinel_servers import FAILOVER_WITHIN_S, MASTER, Replicated

T = TypeVar("T")

#: The calls that may fail before a client has noticed a failover that is over.
FAILURES = 2


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with Replicated(tmp_path_factory.mktemp("servers")) as made:
        yield made


@pytest.fixture
def replicated(servers: Replicated) -> Settings:
    return servers.settings(redis_timeout_s=1.0, wait_timeout_s=0.9)


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Failures:
    """Counts the calls that failed because a client had not noticed a failover that was over."""

    def __init__(self) -> None:
        self._count = 0
        self._deadline = time.monotonic() + FAILOVER_WITHIN_S

    def add(self, error: RedisUnavailable) -> None:
        """Fail if there are more than `FAILURES`.

        Sentinels may take the new primary to be down for a moment, if the machine is busy.
        """
        self._count += "names a primary" not in str(error)
        assert self._count <= FAILURES
        assert time.monotonic() < self._deadline, error


def patiently(call: Callable[[], T]) -> T:
    """Return the result of a call that may fail twice."""
    failures = Failures()
    while True:
        try:
            return call()
        except RedisUnavailable as error:
            failures.add(error)


# The tests below run in this order, because each failover swaps the servers.


def test_a_submission_waits_for_the_replicas_that_it_needs(
    servers: Replicated, replicated: Settings
) -> None:
    sure = replicated.model_copy(update={"wait_replicas": 1})
    with RerankClient(sure) as client:
        assert client.status(client.submit(QUERY, DOCUMENTS)).pairs == 2


@pytest.mark.parametrize("again", ["blocking", "asyncio"])
def test_a_submission_that_no_replica_acknowledges_is_an_error_that_names_the_job(
    servers: Replicated, replicated: Settings, again: str
) -> None:
    sure = replicated.model_copy(update={"wait_replicas": 1})
    # The server does not answer while it waits, and a busy machine delays its answer.
    impatient = sure.model_copy(update={"wait_timeout_s": 0.1})
    submit = submit_with_asyncio if again == "asyncio" else submit_blocking

    with suspended(servers.pid(servers.replica)):
        for _ in range(2):  # the second time, the job is stored already
            with pytest.raises(NotReplicated, match="0 of 1 replicas") as caught:
                submit(impatient, "j")
            assert caught.value.submitted == ("j",)
            assert caught.value.retryable

    assert submit(sure, "j") == "j"
    with RerankClient(sure) as client:
        assert client.status("j").state is jobs.JobState.QUEUED


def submit_blocking(settings: Settings, job_id: str) -> str:
    with RerankClient(settings) as client:
        return client.submit(QUERY, DOCUMENTS, job_id=job_id)


def submit_with_asyncio(settings: Settings, job_id: str) -> str:
    async def scenario() -> str:
        async with AsyncRerankClient(settings) as client:
            return await client.submit(QUERY, DOCUMENTS, job_id=job_id)

    return asyncio.run(scenario())


def test_clients_follow_when_the_primary_is_killed(
    servers: Replicated, replicated: Settings
) -> None:
    async def scenario() -> None:
        async with AsyncRerankClient(replicated) as client:
            job_id = await client.submit(QUERY, DOCUMENTS)
            with RerankClient(replicated) as other:
                assert other.status(job_id).pairs == 2
                servers.await_replica()
                killed = await asyncio.to_thread(servers.kill_primary)

                # Each open connection fails at most once.
                found, failures = None, Failures()
                while found is None:
                    try:
                        found = await client.status(job_id)
                    except RedisUnavailable as error:
                        failures.add(error)
                assert found.state is jobs.JobState.QUEUED
                assert patiently(lambda: other.submit(QUERY, DOCUMENTS, job_id="later")) == "later"
                assert other.workers(0.05) == ()
            servers.start(killed)

    asyncio.run(scenario())
    servers.await_replica()


def test_a_client_of_a_primary_that_stands_still_goes_on_with_the_new_one(
    servers: Replicated, replicated: Settings
) -> None:
    with RerankClient(replicated) as client, client.watch() as watch:
        job_id = client.submit(QUERY, DOCUMENTS)
        servers.await_replica()
        with servers.primary_standing_still():
            began = time.monotonic()
            # The subscription still leads to the server that hangs.
            finish(replicated, job_id)
            found = patiently(lambda: watch.any_of([job_id], 20))
            assert time.monotonic() - began < 15
        assert isinstance(found[job_id], jobs.JobResult)


def finish(settings: Settings, job_id: str) -> None:
    """Record a result like a new worker."""
    schema = Schema(settings)
    with RerankClient(settings) as client:
        assert client._store.execute(begin(schema, job_id))
        assert client._store.execute(outcomes.finish(schema, result_of(job_id)))


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_job_that_a_failover_has_lost_is_submitted_again_while_its_caller_waits(
    settings: Settings, store: JobStore, kind: str
) -> None:
    schema, ended = Schema(settings), threading.Event()

    def rerank() -> jobs.JobResult:
        try:
            if kind == "blocking":
                with RerankClient(settings) as client:
                    return client.rerank(QUERY, DOCUMENTS, job_id="j", timeout=30)
            return asyncio.run(rerank_with_asyncio())
        finally:
            ended.set()

    async def rerank_with_asyncio() -> jobs.JobResult:
        async with AsyncRerankClient(settings) as client:
            return await client.rerank(QUERY, DOCUMENTS, job_id="j", timeout=30)

    def lose() -> None:
        """Remove everything about the job, as if the primary had died before it was replicated."""
        client = store.client
        wait_until(lambda: subscribers(client, settings) > 0, "the caller waits", 20)
        wait_until(lambda: bool(client.hget(schema.keys.job("j"), "sent_at")), "it is sent", 20)
        client.delete(
            *(schema.keys.job("j"), schema.keys.payload("j"), schema.keys.queued),
            *schema.keys.queue_lists,
        )
        wait_until(
            lambda: bool(client.exists(schema.keys.job("j"))) or ended.is_set(),
            "the job is submitted again",
            20,
        )
        store.execute(begin(schema, "j"))
        store.execute(outcomes.finish(schema, result_of("j")))

    losing = threading.Thread(target=lose)
    losing.start()
    result = rerank()
    losing.join()

    assert result.job_id == "j"


@pytest.fixture(scope="module")
def lone() -> Iterator[redis.Redis]:
    """Return a client of a server without Sentinel, as behind an address that follows it."""
    with embedded_redis() as server, redis.Redis(port=server.port) as admin:
        yield admin


def of_producers(admin: redis.Redis) -> int:
    listed: Any = admin.client_list()
    return sum(each["name"] == "rerankq-client" for each in listed)


def url_of(admin: redis.Redis) -> str:
    return f"redis://127.0.0.1:{admin.get_connection_kwargs()['port']}/0"


def test_a_client_of_a_server_that_is_now_a_replica_closes_its_connections(
    lone: redis.Redis,
) -> None:
    with RerankClient(redis_url=url_of(lone)) as client:
        client.submit(QUERY, DOCUMENTS)
        lone.replicaof("127.0.0.1", str(free_port()))

        with pytest.raises(RedisUnavailable, match="read only replica") as refused:
            client.submit(QUERY, DOCUMENTS)
        assert refused.value.retryable
        assert of_producers(lone) == 0

        lone.replicaof("NO", "ONE")
        client.submit(QUERY, DOCUMENTS)


def test_an_asyncio_client_of_a_server_that_is_now_a_replica_closes_its_connections(
    lone: redis.Redis,
) -> None:
    async def scenario() -> None:
        async with AsyncRerankClient(redis_url=url_of(lone)) as client:
            await client.submit(QUERY, DOCUMENTS)
            lone.replicaof("127.0.0.1", str(free_port()))

            with pytest.raises(RedisUnavailable, match="read only replica"):
                await client.submit(QUERY, DOCUMENTS)
            assert of_producers(lone) == 0

            lone.replicaof("NO", "ONE")
            await client.submit(QUERY, DOCUMENTS)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url, _: url.replace(MASTER, "other"), "does not know the name"),
        (
            lambda _, port: f"sentinel://127.0.0.1:{port}?master_name=x",
            r"names a primary \(127\.0\.0\.1:.* refused",
        ),
    ],
    ids=["unknown name", "no sentinel"],
)
def test_the_error_says_why_no_primary_is_found(
    servers: Replicated, change: Callable[[str, int], str], says: str
) -> None:
    settings = Settings.load(redis_url=change(servers.url(), free_port()))
    with RerankClient(settings) as client, pytest.raises(RedisUnavailable, match=says) as caught:
        client.status("j")
    assert "<redis." not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_address_of_a_sentinel_is_not_that_of_redis(servers: Replicated) -> None:
    url = f"redis://127.0.0.1:{servers.sentinel_ports[0]}/0"
    refusal = pytest.raises(RedisUnavailable, match="use sentinel://HOST:PORT")
    with RerankClient(redis_url=url) as client, refusal:
        client.submit(QUERY, DOCUMENTS)


def test_a_command_that_starts_during_a_failover_waits_for_the_primary() -> None:
    settings = Settings.load(redis_url=f"sentinel://127.0.0.1:{free_port()}?master_name={MASTER}")
    said: list[str] = []
    with RerankClient(settings) as client, pytest.raises(RedisUnavailable, match="a primary"):
        require_worker(client, 1.5, said.append)
    (reason,) = said
    assert re.search(r"waiting \(\d s of at most 1\.5 s\): no sentinel of", reason)
