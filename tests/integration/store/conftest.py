"""Fixtures of the store's tests: both ways to run an operation, and the ids of live jobs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import pytest
import redis
import redis.asyncio

from contract.settings import Settings
from contract.store.asynchronous import AsyncJobStore
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from tests.integration.store.attempts_at_a_job import Attempts

T = TypeVar("T")


class Execute(Protocol):
    """Runs an operation."""

    def __call__(self, operation: Operation[T], /) -> T: ...


@pytest.fixture(params=["blocking", "asyncio"])
def execute(request: pytest.FixtureRequest, store: JobStore, settings: Settings) -> Execute:
    """Return the blocking store and the asyncio one in turn: both behave alike."""
    if request.param == "blocking":
        return store.execute

    def run(operation: Operation[T], /) -> T:
        async def once() -> T:
            url = settings.redis_url.get_secret_value()
            with ThreadPoolExecutor(1) as threads:
                async with redis.asyncio.Redis.from_url(url) as client:
                    return await AsyncJobStore(client, store.schema, threads).execute(operation)

        return asyncio.run(once())

    return run


@pytest.fixture
def schema(settings: Settings) -> Schema:
    return Schema(settings)


def live_jobs(client: redis.Redis, schema: Schema) -> tuple[set[str], set[str]]:
    """Return the ids of the jobs that count as queued, and as running."""
    found: list[set[str]] = []
    for key in (schema.keys.queued, schema.keys.running):
        members: Any = client.zrange(key, 0, -1)
        found.append({member.decode() for member in members})
    return found[0], found[1]


@pytest.fixture
def tried(store: JobStore) -> Attempts:
    return Attempts(store)
