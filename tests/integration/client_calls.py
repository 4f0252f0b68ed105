"""Calls of the asyncio client, and the end of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import redis

from contract import jobs
from contract.errors import JobNotFound
from contract.settings import Settings
from contract.store import outcomes
from contract.store.blocking import JobStore
from producer.client.asynchronous import AsyncRerankClient
from tests.integration.redis_state import PATIENCE_S, await_subscribers

T = TypeVar("T")


def run(settings: Settings, scenario: Callable[[AsyncRerankClient], Awaitable[T]]) -> T:
    """Run `scenario` with a new client; return its result."""

    async def with_client() -> T:
        async with AsyncRerankClient(settings) as reranker:
            return await scenario(reranker)

    return asyncio.run(with_client())


def finish(store: JobStore, outcome: jobs.Outcome) -> bool:
    """End a job like a worker."""
    return store.execute(outcomes.finish(store.schema, outcome))


async def waiting_for(
    reranker: AsyncRerankClient, job_id: str, client: redis.Redis, settings: Settings
) -> asyncio.Task[jobs.JobResult]:
    """Return a task that waits for a job and has found no outcome in its first reading."""
    task = asyncio.create_task(reranker.result(job_id, PATIENCE_S))
    await asyncio.to_thread(await_subscribers, client, settings, 1)
    # Each of these waits begins and ends after the task's first reading.
    for _ in range(3):
        with pytest.raises(JobNotFound):
            await reranker.result("unknown", PATIENCE_S)
    return task
