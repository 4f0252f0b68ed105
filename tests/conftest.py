"""Fixtures of all tests: a clean environment, a real Redis, and a namespace for each test."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
import redis

from contract.settings import Settings
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from tests import groups
from tests.embedded_redis import embedded_redis

# Libraries read these when they are imported, which is before any fixture.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"

#: Runs the tests against this server instead of the embedded one.
GIVEN_REDIS = os.environ.get("RERANKQ_REDIS_URL")

#: The names of the connections of producers.
PRODUCERS = ("rerankq-client", "rerankq-producer")
LeftOpen = Callable[[], list[Any]]

#: The prefixes of variables that would change what a test does.
FOREIGN = (
    "RERANKQ_",
    "SEARCH_",
    "MILVUS_",
    "CROSS_ENCODER_",
    "RERANKER_",
    "VECTOR_TOP_K",
    "FLOWER_",
    "CELERY_",
)


def pytest_configure() -> None:
    """Enable Ctrl-C for child processes; a shell disables it for processes in the background.

    Collect no garbage while modules are imported, which takes a sixth of the time of that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.scheduling import GroupScheduling  # not needed to run in one process

    return GroupScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let the processes of xdist collect one after the other.

    The first one rewrites the assertions of all files, which takes as long as collecting them. The
    others read what it has saved.
    """
    if not hasattr(session.config, "workerinput"):
        return (yield)
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the largest groups first, and the tests of a group one after the other."""
    items.sort(key=lambda item: (groups.place(item.nodeid), groups.group(item.nodeid)))


def pytest_collection_finish() -> None:
    """Exempt the imported modules from garbage collection, which is slow with torch's objects.

    Their loggers pass messages on, because pytest adds its handlers to each that does not, six
    times for each test. There are sixty, most of them torch's.
    """
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all settings of the machine from the tests."""
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    if GIVEN_REDIS:
        yield GIVEN_REDIS
        return
    with embedded_redis() as server:
        yield f"redis://{server.host}:{server.port}/0"
        kombu.pools.reset()


@pytest.fixture
def settings(redis_url: str) -> Iterator[Settings]:
    """Yield settings with a new namespace, and check that no key in it is left without a TTL."""
    made = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    yield made
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter(f"*{made.namespace}*", count=1_000))
        ours = [key for key in keys if key.startswith(f"{made.namespace}:".encode())]
        with client.pipeline(transaction=False) as pipe:
            for key in ours:
                pipe.ttl(key)
            lasting = [
                key.decode() for key, ttl in zip(ours, pipe.execute(), strict=True) if ttl == -1
            ]
        if keys:
            client.delete(*keys)
    assert [key for key in lasting if ":unacked" not in key] == []


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    """Return a plain Redis client, to look behind the store."""
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as made:
        yield made


@pytest.fixture
def store(settings: Settings, client: redis.Redis) -> JobStore:
    return JobStore(client, Schema(settings))


@pytest.fixture
def left_open(client: redis.Redis) -> LeftOpen:
    """Return the connections of producers that the server has open since the test began.

    Other tests of the session have a worker and clients on the same server.
    """
    listed: Any = client.client_list()
    before = {each["id"] for each in listed}

    def opened() -> list[Any]:
        found: Any = client.client_list()
        return [each for each in found if each["id"] not in before and each["name"] in PRODUCERS]

    return opened
