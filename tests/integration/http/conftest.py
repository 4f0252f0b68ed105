"""The HTTP service on a real socket and a real Redis; stand-ins score, without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from contract import jobs
from contract.settings import Settings
from producer.http.settings import HttpSettings
from tests.integration.sample_records import result_of
from tests.integration.stand_ins import StandInWorker
from tests.processes import wait_until

if TYPE_CHECKING:
    from fastapi import FastAPI

Serve = Callable[..., AbstractContextManager[httpx.Client]]


@contextmanager
def running(app: FastAPI, grace_s: int | None = None) -> Iterator[httpx.Client]:
    """Yield a client of the service, which runs in a thread with its own event loop.

    It then has `grace_s` seconds for the requests that it has (None: no limit).
    """
    import uvicorn

    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=grace_s
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the service listens", 10)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def serve(settings: Settings) -> Serve:
    """Start the service with further settings."""

    # Every process that shares the tests imports this file, so FastAPI is imported here.
    from producer.http.app import create_app

    def start(grace_s: int | None = None, **others: Any) -> AbstractContextManager[httpx.Client]:
        given = {"redis_url": settings.redis_url, "namespace": settings.namespace}
        return running(create_app(HttpSettings.load(**given | others)), grace_s)

    return start


def score(job: jobs.Job) -> jobs.JobResult:
    """Rank the documents of each request by the length of their texts, longest first."""
    made = result_of(job.id)
    with_passages = job.passages is not None
    rankings = tuple(_ranking(each, with_passages) for each in job.requests)
    return made.model_copy(update={"rankings": rankings})


def _ranking(request: jobs.Request, with_passages: bool) -> jobs.Ranking:
    order = sorted(enumerate(request.candidates), key=lambda each: -len(each[1].text))
    documents = tuple(
        jobs.RankedDocument(
            id=candidate.id,
            index=index,
            rank=rank,
            score=len(candidate.text) / 7,
            relevance=len(candidate.text) / 700,
            passage=jobs.Passage(index=1, begin=3, end=9, count=4) if with_passages else None,
            metadata=candidate.metadata,
        )
        for rank, (index, candidate) in enumerate(order[: request.top_k], 1)
    )
    return jobs.Ranking(query_id=request.query_id, documents=documents)


@pytest.fixture
def scored(settings: Settings) -> Iterator[StandInWorker]:
    """Yield a stand-in for a worker that scores whatever is queued."""
    with StandInWorker(settings, score) as worker:
        yield worker


@pytest.fixture
def api(serve: Serve, scored: StandInWorker) -> Iterator[httpx.Client]:
    """Yield a client of a service whose jobs are scored."""
    with serve() as client:
        yield client
