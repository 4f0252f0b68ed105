"""Each user of `deploy/users.acl` does its work with real processes, and none of it is refused.

`tests/integration/test_acl.py` has everything that they may not do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from contract import names
from contract.errors import JobFailed, JobNotFound
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.cli.loopback import free_port
from producer.client import preparing
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests import acl
from tests.acceptance.conftest import SAMPLE, environment_of
from tests.command_line import rerankq
from tests.processes import celery, children_of, wait_until
from tests.stub_models import ABSENT, SLOW, STUB
from tests.web import fetch

QUERY = "edit mp3 tags from the terminal"
DOCUMENTS = ["a mail client", "a command line editor for ID3 tags of MP3 files", "a chess game"]
KEYS = names.Keys("rerankq")
LOGIN = "someone:a-word-for-flower"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[acl.Server]:
    with acl.server(tmp_path_factory.mktemp("acl")) as made:
        yield made


@pytest.fixture(scope="module")
def producer(server: acl.Server) -> Settings:
    return server.settings("producer", allowed_models=f"{STUB},{ABSENT}")


@pytest.fixture(scope="module")
def client(producer: Settings) -> Iterator[RerankClient]:
    with RerankClient(producer) as made:
        yield made


@pytest.fixture(scope="module")
def worker(
    server: acl.Server, client: RerankClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Return the worker's process."""
    folder = tmp_path_factory.mktemp("worker")
    environment = environment_of(server.settings("worker")) | {
        "CROSS_ENCODER_MODEL": SLOW,
        "RERANKQ_DOWNGRADE_MODEL": STUB,
        "RERANKQ_ALLOWED_MODELS": f"{STUB},{ABSENT}",
        "RERANKQ_MAX_BATCH_TOKENS": "2048",
        "RERANKQ_LEASE_S": "3",
        "RERANKQ_SWEEP_EVERY_S": "1",
        "RERANKQ_RESEND_AFTER_S": "2",
    }
    log = folder / "worker.log"
    arguments = ("worker", "--loglevel", "INFO", "--concurrency", "1")
    with celery(*arguments, log=log, environment=environment) as process:
        wait_until(
            lambda: process.poll() is not None or bool(client.workers(0.5, at_most=1)),
            "a worker answers",
        )
        assert process.poll() is None, log.read_text()
        yield process.pid
        assert process.poll() is None, log.read_text()
    # Celery ignores some refusals, including those of its start and its end.
    assert server.refused() == []
    assert acl.PASSWORD not in log.read_text()


@pytest.fixture(autouse=True)
def _nothing_is_refused(server: acl.Server, worker: int) -> Iterator[None]:
    yield
    assert server.refused() == []


def test_a_producer_submits_waits_looks_and_cancels(client: RerankClient) -> None:
    result = client.rerank(QUERY, DOCUMENTS, timeout=60)
    assert len(result.documents) == len(DOCUMENTS)
    assert client.status(result.job_id).state is JobState.DONE
    client.forget(result.job_id)

    cancelled = client.submit(QUERY, DOCUMENTS * 100, priority=9)
    assert client.cancel(cancelled)

    requests = [{"query": QUERY, "candidates": [{"id": "1", "text": "t"}]}] * 2
    (many,) = client.submit_many(requests)
    assert len(client.result(many, 60).rankings) == 2
    assert len(client.status().workers) == 1


def test_a_producer_follows_lists_cancels_and_forgets_batches(client: RerankClient) -> None:
    requests = [{"query": QUERY, "candidates": [{"id": "1", "text": "t"}]}] * 4
    batch = client.submit_many(requests, pairs_per_job=1, label="night")
    assert len(dict(client.batch(batch.id).as_completed(60))) == 4
    other = client.submit_many(requests * 20, pairs_per_job=1, priority=9)
    other.cancel()
    assert [each.label for each in client.batches(at_most=2)] == [None, "night"]

    for each in (batch, other):
        client.forget(each.id)
    assert batch.id not in [each.batch_id for each in client.batches()]


def test_an_asyncio_producer_does_so_too(producer: Settings) -> None:
    async def scenario() -> None:
        async with AsyncRerankClient(producer) as client:
            result = await client.rerank(QUERY, DOCUMENTS, timeout=60)
            assert len(result.documents) == len(DOCUMENTS)
            assert (await client.status()).dead_letters == 0
            await client.cancel(await client.submit(QUERY, DOCUMENTS))

    asyncio.run(scenario())


def test_a_producer_lists_retries_and_drops_dead_letters(client: RerankClient) -> None:
    failed = [client.submit(QUERY, DOCUMENTS, model=ABSENT) for _ in range(2)]
    for job_id in failed:
        with pytest.raises(JobFailed):
            client.result(job_id, 60)
    assert {letter.job_id for letter in client.dead_letters()} == set(failed)

    client.retry(failed[0], model=STUB)
    client.drop(failed[1])

    assert client.result(failed[0], 60).provenance.model == STUB
    assert client.dead_letters() == []


def test_a_producer_rescores_a_run(producer: Settings, tmp_path: Path) -> None:
    few = tmp_path / "run.trec"
    few.write_text("".join((SAMPLE / "bm25.trec").read_text().splitlines(keepends=True)[:100]))
    files = ("--corpus", str(SAMPLE / "corpus.jsonl"), "--queries", str(SAMPLE / "queries.jsonl"))
    output = tmp_path / "reranked.trec"

    done = rerankq(
        *("rescore", *files, "--run", str(few), "--output", str(output), "--model", STUB),
        environment=environment_of(producer),
    )

    assert done.returncode == 0, done.stderr
    assert len(output.read_text().splitlines()) == 100
    with RerankClient(producer) as client:
        assert [(each.label, each.state) for each in client.runs()] == [("reranked.trec", "done")]


def test_a_worker_whose_child_is_killed_downgrades_the_job(
    client: RerankClient, worker: int
) -> None:
    documents = [f"{place} " + "a long text about this and that " * 75 for place in range(400)]
    job_id = client.submit(QUERY, documents)
    wait_until(lambda: client.status(job_id).attempts == 1, "it is under way")

    for child in children_of(worker):
        os.kill(child, signal.SIGKILL)

    made = client.result(job_id, 90).provenance
    assert (made.model, made.reason) == (STUB, "worker_died")


def test_a_worker_sends_lost_jobs_again(client: RerankClient, producer: Settings) -> None:
    job = preparing.job([preparing.request(QUERY, DOCUMENTS, top_k=None)], producer)
    schema = Schema(producer)

    with redis.Redis.from_url(producer.redis_url.get_secret_value()) as connection:
        JobStore(connection, schema).execute(submissions.accept(schema, job))

    assert client.result(job.id, 60).provenance.attempts == 1


def test_a_worker_gives_back_what_a_dead_one_held(server: acl.Server, client: RerankClient) -> None:
    # Given a message that is held since long ago, and whose job is unknown
    body = base64.b64encode(json.dumps([["long-ago"], {}, {}]).encode()).decode()
    message: dict[str, Any] = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": "long-ago", "task": names.SCORE_TASK, "lang": "py"},
        "properties": {
            "delivery_tag": "tag",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": KEYS.queue},
        },
    }
    server.admin.hset(KEYS.unacked, "tag", json.dumps([message, "", KEYS.queue]))
    server.admin.zadd(KEYS.unacked_index, {"tag": time.time() - 10_000})

    # Then it is delivered and acknowledged, and leaves no record
    def gone() -> bool:
        left: Any = server.admin.exists(KEYS.unacked, KEYS.unacked_index, KEYS.queue)
        return not left

    wait_until(gone, "it is delivered")
    with pytest.raises(JobNotFound):
        client.result("long-ago", 30)


def test_flower_shows_tasks_workers_and_queue(
    server: acl.Server, client: RerankClient, tmp_path: Path
) -> None:
    port = free_port()
    environment = environment_of(server.settings("flower")) | {"FLOWER_BASIC_AUTH": LOGIN}

    def get(path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(fetch(f"http://127.0.0.1:{port}{path}", LOGIN))
        return found

    log = tmp_path / "flower.log"
    with celery("flower", f"--port={port}", log=log, environment=environment):
        wait_until(lambda: "Visit me" in log.read_text(), "Flower is up")

        def shown() -> bool:
            job_id = client.rerank(QUERY, DOCUMENTS, timeout=60).job_id
            return bool(get("/api/tasks").get(job_id, {}).get("state") == "SUCCESS")

        wait_until(shown, "Flower shows a job")

        def answers() -> bool:
            return "stats" in next(iter(get("/api/workers?refresh=1").values()))

        wait_until(answers, "Flower shows the worker's answer")
        (queue,) = get("/api/queues/length")["active_queues"]
        assert queue["name"] == KEYS.queue


def test_whoever_watches_may_ask_for_the_status(server: acl.Server) -> None:
    done = rerankq("status", "--json", environment=environment_of(server.settings("flower")))

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["workers"]) == 1
