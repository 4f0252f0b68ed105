"""Any number of threads share one blocking client, and none of them waits forever."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from contract.errors import ClientUnusable, RedisUnavailable
from contract.settings import Settings
from contract.store import operation, outcomes, submissions
from contract.store.blocking import JobStore
from contract.store.connection import MAX_CONNECTIONS, connect
from contract.store.operation import Operation, Schema
from producer.client.blocking import RerankClient
from producer.client.broker_connections import BrokerConnectionPool
from producer.client.single_flight import SingleFlight
from tests.conftest import LeftOpen
from tests.integration.redis_state import PATIENCE_S, await_subscribers, messages
from tests.integration.sample_records import DOCUMENTS, QUERY, job, result_of
from tests.integration.stand_ins import begin
from tests.processes import wait_until

CALLERS = 200

#: Each call is made by many threads at once; afterwards the client must still work for others.
CALLS: dict[str, Callable[[RerankClient], object]] = {
    "workers": lambda client: client.workers(),
    "status of the service": lambda client: client.status(),
    "submit": lambda client: client.submit(QUERY, DOCUMENTS),
    "status": lambda client: client.status(client.submit(QUERY, DOCUMENTS)),
    "result": lambda client: client.result("ended"),
    "cancel": lambda client: client.cancel(client.submit(QUERY, DOCUMENTS)),
}


def at_once(call: Callable[[], object], callers: int = CALLERS) -> list[object]:
    """Return the results of a call that this many threads make at the same moment."""
    barrier = threading.Barrier(callers)

    def one(_: int) -> object:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(one, range(callers), timeout=90))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_two_hundred_threads_make_a_call_and_later_clients_still_work(
    call: Callable[[RerankClient], object],
    settings: Settings,
    store: JobStore,
    client: redis.Redis,
    left_open: LeftOpen,
) -> None:
    store.execute(submissions.accept(store.schema, job("ended")))
    store.execute(outcomes.finish(store.schema, result_of("ended")))
    with RerankClient(settings) as shared:
        assert len(at_once(lambda: call(shared))) == CALLERS
        assert shared.submit(QUERY, DOCUMENTS, job_id="same-client")
    with RerankClient(settings) as later:
        assert later.workers(0.2) == ()
        assert later.submit(QUERY, DOCUMENTS, job_id="later-client")

    assert {"same-client", "later-client"} <= {each.id for each in messages(client, settings)}
    wait_until(lambda: left_open() == [], "all connections are closed")


def test_two_hundred_threads_rerank_while_others_ask_for_the_workers(
    settings: Settings, store: JobStore
) -> None:
    stop = threading.Event()

    def score() -> None:
        """Do a worker's part of the jobs."""
        while not stop.is_set():
            queued: Any = store.client.zrange(store.schema.keys.queued, 0, -1)
            for job_id in queued:
                store.execute(begin(store.schema, job_id.decode()))
                store.execute(outcomes.finish(store.schema, result_of(job_id.decode())))

    worker = threading.Thread(target=score)
    worker.start()
    try:
        with RerankClient(settings) as shared, ThreadPoolExecutor(20) as others:
            asked = [others.submit(shared.status) for _ in range(20)]
            results = at_once(lambda: shared.rerank(QUERY, DOCUMENTS, timeout=60))
            assert all(each.result(60) for each in asked)
    finally:
        stop.set()
        worker.join(30)

    assert len({result.job_id for result in results}) == CALLERS  # type: ignore[attr-defined]


def test_threads_that_ask_at_once_share_one_answer(settings: Settings, client: redis.Redis) -> None:
    channel = f"/*{settings.namespace}.pidbox"
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
        pubsub.psubscribe(channel)
        pubsub.get_message(timeout=10)
        with RerankClient(settings) as shared:
            at_once(shared.workers, 50)
            heard = 0
            while pubsub.get_message(timeout=0.5) is not None:
                heard += 1

    # not 50, because a thread that was late may have asked again
    assert 1 <= heard <= 10


def test_a_wait_for_a_connection_ends_with_an_error_that_names_it(settings: Settings) -> None:
    client = connect(settings, pool_wait_s=0.1)
    store = JobStore(client, Schema(settings))
    taken = [client.connection_pool.get_connection() for _ in range(MAX_CONNECTIONS)]

    with pytest.raises(RedisUnavailable, match=r"no connection .* within 0.1 s; .* all 32 "):
        store.execute(operation.ping())

    for each in taken:
        client.connection_pool.release(each)
    store.execute(operation.ping())
    client.close()


def test_a_wait_for_a_connection_for_messages_ends_with_an_error_that_names_it(
    settings: Settings,
) -> None:
    pool = BrokerConnectionPool(lambda: None, settings, max_connections=2, wait_s=0.1)
    with pool.connection(), pool.connection():
        error = r"no connection for messages .* within 0.1 s; .* all 2 connections"
        with pytest.raises(RedisUnavailable, match=error), pool.connection():
            pass
    with pool.connection():
        pass


class Interruption(BaseException):
    """An exception that a signal raises in the main thread, as Ctrl-C does."""


# redis-py leaves a socket to the garbage collector if it is interrupted while it connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_connection_for_messages_goes_to_the_thread_that_has_waited_longest(
    settings: Settings,
) -> None:
    pool = BrokerConnectionPool(lambda: None, settings, max_connections=1)
    order = []

    def take(name: str) -> None:
        with pool.connection():
            order.append(name)

    # Given a thread that waits for the only connection
    with ThreadPoolExecutor(1) as threads:
        with pool.connection():
            waiting = threads.submit(take, "waiting")
            wait_until(lambda: bool(pool._waiting), "the thread waits", PATIENCE_S)
        # When the one that had it wants it again at once, then it comes later
        take("again")
        waiting.result(PATIENCE_S)
    assert order == ["waiting", "again"]


# If redis-py is interrupted while it connects, the garbage collector closes the socket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_call_leaves_no_reply_behind_for_the_next(store: JobStore) -> None:
    """Interrupt calls, and check that later calls get the replies to their own requests."""

    main, stop, armed = threading.get_ident(), threading.Event(), threading.Event()

    def interrupt(*_: object) -> None:
        if armed.is_set():
            armed.clear()
            raise Interruption

    def send_signals() -> None:
        while not stop.wait(random.uniform(0.0002, 0.003)):
            signal.pthread_kill(main, signal.SIGUSR1)

    def echo(text: str) -> Operation[str]:
        return Operation(lambda pipe: pipe.echo(text), lambda replies: replies[0].decode())

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send_signals)
    interruptions = number = 0
    try:
        sender.start()
        while interruptions < 200:
            number += 1
            try:
                armed.set()
                assert store.execute(echo(f"call {number}")) == f"call {number}"
            except Interruption:
                interruptions += 1
            armed.clear()
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        stop.set()
        sender.join(30)
        signal.signal(signal.SIGUSR1, before)

    assert store.execute(echo("afterwards")) == "afterwards"


def test_closing_ends_the_waits_of_other_threads_with_an_error(
    settings: Settings, client: redis.Redis, left_open: LeftOpen
) -> None:
    shared = RerankClient(settings)
    ids = [shared.submit(QUERY, DOCUMENTS) for _ in range(20)]
    with ThreadPoolExecutor(len(ids)) as threads:
        waits = [threads.submit(shared.result, job_id, None) for job_id in ids]
        await_subscribers(client, settings, len(ids))
        shared.close()
        for wait in waits:
            with pytest.raises(ClientUnusable, match="is closed"):
                wait.result(30)
    wait_until(lambda: left_open() == [], "all connections are closed")


def test_closing_while_others_submit_ends_in_ids_or_that_error_and_leaks_nothing(
    settings: Settings, client: redis.Redis, left_open: LeftOpen
) -> None:
    shared = RerankClient(settings)

    def submit_until_closed() -> str:
        while True:
            try:
                shared.submit(QUERY, DOCUMENTS)
            except ClientUnusable as error:
                return str(error)

    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(submit_until_closed) for _ in range(20)]
        wait_until(lambda: len(messages(client, settings)) > 20, "all submit")
        shared.close()
        assert {call.result(60) for call in calls} == {"the client is closed; create a new one"}
    wait_until(lambda: left_open() == [], "all connections are closed")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_closed_client_says_so(
    call: Callable[[RerankClient], object], settings: Settings
) -> None:
    shared = RerankClient(settings)
    shared.close()
    shared.close()

    with pytest.raises(ClientUnusable, match="is closed"):
        call(shared)


def test_an_interrupted_asker_leaves_the_question_to_another() -> None:
    asked, go_on = threading.Event(), threading.Event()
    shared: SingleFlight[str] = SingleFlight("something")

    def interrupted() -> str:
        asked.set()
        go_on.wait(30)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.get, "key", interrupted, 30)
        asked.wait(30)
        second = threads.submit(shared.get, "key", lambda: "an answer", 30)
        time.sleep(0.05)
        go_on.set()
        with pytest.raises(BaseException):  # noqa: B017, PT011
            first.result(30)
        assert second.result(30) == "an answer"


def test_a_wait_for_anothers_answer_is_bounded_and_says_for_what() -> None:
    asked, go_on = threading.Event(), threading.Event()
    shared: SingleFlight[str] = SingleFlight("workers of a test")

    def slow() -> str:
        asked.set()
        go_on.wait(30)
        return "late"

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(shared.get, "key", slow, 30)
        asked.wait(30)
        with pytest.raises(
            RedisUnavailable, match=r"workers of a test: another thread .* no answer within 0.1 s"
        ):
            shared.get("key", slow, 0.1)
        go_on.set()
        assert first.result(30) == "late"
