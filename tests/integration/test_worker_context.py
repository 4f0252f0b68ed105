"""A worker's call to Redis is made when Redis is back, or left out, as its caller chooses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.errors import RedisRefused, RedisUnavailable
from contract.store import operation, overview
from contract.store.operation import Operation
from tests.embedded_redis import FaultyRedis
from tests.processes import linux_only, wait_until
from worker.runtime.context import WorkerContext
from worker.runtime.settings import WorkerSettings

pytestmark = linux_only

TIME_LIMIT_S = 2


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyRedis]:
    with FaultyRedis() as made:
        yield made


@pytest.fixture
def context(server: FaultyRedis) -> WorkerContext:
    return WorkerContext(
        WorkerSettings.load(
            redis_url=server.url, soft_time_limit_s=TIME_LIMIT_S - 1, time_limit_s=TIME_LIMIT_S
        )
    )


def test_what_must_be_done_is_done_once_redis_is_back(
    context: WorkerContext, server: FaultyRedis, caplog: pytest.LogCaptureFixture
) -> None:
    context.retry_until_available(operation.ping())

    with ThreadPoolExecutor(1) as threads:
        with server.away():
            waiting = threads.submit(context.retry_until_available, operation.ping())
            wait_until(lambda: "Waiting for Redis" in caplog.text, "it waits")

        waiting.result(30)


def test_what_redis_refuses_is_not_tried_again(context: WorkerContext) -> None:
    tries = 0

    def send(pipe: Any) -> None:
        nonlocal tries
        tries += 1
        pipe.execute_command("NOT-A-COMMAND")

    with pytest.raises(RedisRefused):
        context.retry_until_available(Operation(send, lambda _: None))
    assert tries == 1


def test_nobody_waits_for_redis_longer_than_for_a_job(
    context: WorkerContext, server: FaultyRedis
) -> None:
    with server.away(), pytest.raises(RedisUnavailable):
        context.retry_until_available(operation.ping())


def test_what_can_wait_is_left_and_said(
    context: WorkerContext, server: FaultyRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with server.away():
        counted = context.best_effort(overview.count(context.schema, {"this": 1}))

    assert counted is None
    assert [each.partition(":")[0] for each in caplog.messages] == [
        "Failed to access Redis, continuing without it"
    ]


def test_a_process_has_one_store_for_each_timeout(context: WorkerContext) -> None:
    assert context.store(1.0) is context.store(1.0)
    assert context.store(1.0) is not context.store(2.0)
