"""A real `celery -A worker worker` takes jobs, and survives every bad job."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

import pytest
import redis

from contract import jobs
from contract.errors import JobFailed
from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client import preparing
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.publishing import Publisher
from tests.acceptance.conftest import environment_of
from tests.processes import celery, end, wait_until
from tests.stub_models import STUB

QUERY = "edit mp3 tags from the terminal"
LONG = "a long text about this and that " * 60
DOCUMENTS = ["a mail client", "a command line editor for ID3 tags of MP3 files", "a chess game"]


def test_a_job_comes_back_ranked_with_where_its_scores_came_from(client: RerankClient) -> None:
    result = client.rerank(QUERY, DOCUMENTS, timeout=60)

    assert [document.id for document in result.documents] == ["1", "0", "2"]
    assert [document.rank for document in result.documents] == [1, 2, 3]
    assert result.documents[0].score > result.documents[1].score > result.documents[2].score
    made = result.provenance
    assert (made.model, made.downgraded, made.attempts, made.pairs) == ("bundled", False, 1, 3)
    assert (made.backend, made.dtype, made.max_length) == ("rerankq", "float32", 512)


def test_metadata_first_stage_place_and_top_k_come_through(client: RerankClient) -> None:
    documents = [
        {"id": "mail", "text": DOCUMENTS[0], "score": 9.5},
        {"id": "tags", "text": DOCUMENTS[1], "score": 9.1, "metadata": {"page": 3}},
    ]

    result = client.rerank(QUERY, documents, top_k=1, timeout=60)

    (best,) = result.documents
    assert (best.id, best.index, best.metadata) == ("tags", 1, {"page": 3})


def test_many_queries_in_one_job_come_back_in_their_order(client: RerankClient) -> None:
    requests = [
        jobs.Request(
            query_id=f"q{number}",
            query=f"number {number}",
            candidates=preparing.candidates([f"this is number {number}", "something else"]),
        )
        for number in range(20)
    ]

    (job_id,) = client.submit_many(requests)
    result = client.result(job_id, timeout=60)

    assert [ranking.query_id for ranking in result.rankings] == [f"q{n}" for n in range(20)]
    assert result.provenance.pairs == 40


def test_a_job_submitted_twice_is_scored_once(client: RerankClient) -> None:
    ids = [client.submit(QUERY, DOCUMENTS, job_id="twice") for _ in range(2)]

    assert ids == ["twice", "twice"]
    assert client.result("twice", timeout=60).provenance.attempts == 1
    assert client.status("twice").attempts == 1


def test_a_thousand_waits_of_one_asyncio_program_all_come_back_right(service: Settings) -> None:
    """Await each of 100 jobs ten times, because it is the waits that the program must bear."""

    async def submit(client: AsyncRerankClient, number: int) -> str:
        documents = [f"about number {number}", f"about number {number + 1}"]
        return await client.submit(f"query {number}", documents, job_id=f"many-{number}")

    async def all_of_them() -> tuple[list[str], list[jobs.JobResult]]:
        async with AsyncRerankClient(service) as client:
            ids = 10 * await asyncio.gather(*(submit(client, number) for number in range(100)))
            waits = (client.result(job_id, timeout=90) for job_id in ids)
            return ids, await asyncio.gather(*waits)

    ids, results = asyncio.run(all_of_them())

    assert len(results) == 1000
    assert [result.job_id for result in results] == ids
    assert {len(result.documents) for result in results} == {2}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (None, "payload_missing"),
        (b"not compressed", "payload_invalid"),
        (zlib.compress(b"[1, 2"), "payload_invalid"),
        (zlib.compress(b'{"id": "x", "requests": []}'), "payload_invalid"),
        (zlib.compress(b'{"id": "x", "surprise": 1}'), "payload_invalid"),
    ],
)
def test_a_payload_that_is_no_job_is_a_failure_for_good(
    service: Settings, client: RerankClient, payload: bytes | None, code: str
) -> None:
    """Fail the job without a retry (the `service` fixture checks that the worker is alive)."""
    # Given a job whose payload was replaced after it was accepted
    store = _store(service)
    job = preparing.job([preparing.request(QUERY, DOCUMENTS, top_k=None)], service)
    store.execute(submissions.accept(store.schema, job))
    store.client.delete(store.schema.keys.payload(job.id))
    if payload is not None:
        store.client.set(store.schema.keys.payload(job.id), payload, ex=60)

    # When its message reaches the worker
    publisher = Publisher(service)
    publisher.send(job, priority=0)
    publisher.close()

    # Then it has failed, once
    with pytest.raises(JobFailed) as failed:
        client.result(job.id, timeout=60)
    assert failed.value.failure.code == code
    assert failed.value.failure.retryable is False
    assert client.status(job.id).attempts == 1


def test_the_worker_checks_the_limits_again(service: Settings, client: RerankClient) -> None:
    # Given a producer that allows more than the worker
    lax = Settings.load(
        redis_url=service.redis_url.get_secret_value(),
        namespace=service.namespace,
        allowed_models="somebody/elses-model",
        max_text_chars=10_000_000,
    )
    with RerankClient(lax) as careless:
        not_allowed = careless.submit(QUERY, DOCUMENTS, model="somebody/elses-model")
        too_long = careless.submit(QUERY, ["word " * 300_000])

    # When the worker takes the jobs, then both fail with their codes
    codes = []
    for job_id in (not_allowed, too_long):
        with pytest.raises(JobFailed) as failed:
            client.result(job_id, timeout=60)
        codes.append(failed.value.failure.code)
    assert codes == ["model_not_allowed", "limit_exceeded"]


def test_an_allowed_model_that_cannot_be_loaded_fails_its_job_alone(client: RerankClient) -> None:
    job_id = client.submit(QUERY, DOCUMENTS, model="cross-encoder/ms-marco-MiniLM-L-12-v2")

    with pytest.raises(JobFailed, match="cannot be loaded") as failed:
        client.result(job_id, timeout=60)

    assert failed.value.failure.code == "model_unavailable"
    assert client.rerank(QUERY, DOCUMENTS, timeout=60).provenance.model == "bundled"


def test_a_cancelled_job_stays_cancelled(settings: Settings, tmp_path: Path) -> None:
    # Given a job that was cancelled while no worker was running, and one behind it
    with RerankClient(settings) as client:
        cancelled = client.submit(QUERY, DOCUMENTS)
        assert client.cancel(cancelled)
        behind = client.submit(QUERY, DOCUMENTS)

        # When a worker starts
        arguments = ("worker", "--concurrency", "1", "-n", settings.namespace)
        log = tmp_path / "worker.log"
        with celery(*arguments, log=log, environment=environment_of(settings)):
            client.result(behind, timeout=90)

        # Then only the second was scored
        assert client.status(cancelled).state is jobs.JobState.CANCELLED
        assert client.status(cancelled).attempts == 0


def test_a_worker_without_its_model_ends_with_an_error_and_leaves_the_jobs(
    settings: Settings, tmp_path: Path
) -> None:
    with RerankClient(settings) as client:
        job_id = client.submit(QUERY, DOCUMENTS)

        # When a worker starts with a model that does not exist
        arguments = ("worker", "--concurrency", "2", "-n", settings.namespace)
        log = tmp_path / "without.log"
        nowhere = environment_of(settings, "/no/such/model")
        with celery(*arguments, log=log, environment=nowhere) as process:
            wait_until(lambda: process.poll() is not None, "the worker has ended")
            assert end(process) == 69

        # Then its log names the model, the places where it looked, and the fixes
        said = log.read_text()
        assert "'/no/such/model' cannot be loaded" in said
        assert "cannot be loaded: the folder does not exist. Set CROSS_ENCODER_MODEL to" in said
        assert "CROSS_ENCODER_MODEL" in said
        # Once, and as the last line
        assert said.count("Worker exiting with code 69: ") == 1
        assert "Worker exiting" in said.splitlines()[-1]
        assert "Traceback" not in said

        # And the job waits for a worker that can score it
        log = tmp_path / "with.log"
        with celery(*arguments, log=log, environment=environment_of(settings)):
            assert client.result(job_id, timeout=90).provenance.model == STUB


def test_the_queue_is_empty_when_all_is_done(service: Settings, client: RerankClient) -> None:
    client.rerank(QUERY, DOCUMENTS, timeout=60)

    def drained() -> bool:
        status = client.status()
        return status.queue_depth == 0 and status.unacked == 0

    wait_until(drained, "no message is left", within_s=20)
    assert client.status().jobs[jobs.JobState.QUEUED] == 0
    assert client.status().jobs[jobs.JobState.RUNNING] == 0


def test_celery_stores_a_summary_whose_first_keys_tell_most(
    service: Settings, client: RerankClient
) -> None:
    result = client.rerank(QUERY, DOCUMENTS, timeout=60)

    key = f"{service.namespace}:celery-task-meta-{result.job_id}"
    wait_until(lambda: b'"SUCCESS"' in (_raw(service).get(key) or b""), "Celery has its result")
    stored = _raw(service).get(key)
    assert isinstance(stored, bytes)
    assert b'"result": {"model": "bundled", "downgraded": false, "pairs": 3,' in stored


def _raw(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis_url.get_secret_value())


def _store(settings: Settings) -> JobStore:
    return JobStore(_raw(settings), Schema(settings))


def test_the_queue_keys_are_the_ones_celery_uses(service: Settings, client: RerankClient) -> None:
    """Count the waiting jobs of every priority in `status`."""
    no_worker_here = Settings.load(
        redis_url=service.redis_url.get_secret_value(), namespace=f"{service.namespace}-idle"
    )
    with RerankClient(no_worker_here) as idle:
        for priority in (0, 3, 5, 9):
            idle.submit(QUERY, DOCUMENTS, priority=priority)
        assert idle.status().queue_depth == 4
        assert idle.status().workers == ()
    raw = _raw(service)
    for key in raw.scan_iter(f"*{no_worker_here.namespace}*"):
        raw.delete(key)
