"""An expired result is reported as such everywhere, and its job can be submitted again."""

from __future__ import annotations

import asyncio

import pytest
import redis
from click.testing import CliRunner

from contract import jobs
from contract.errors import ResultExpired
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import outcomes, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.cli import common, main
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from tests.integration.redis_state import messages, payload
from tests.integration.sample_records import (
    DOCUMENTS,
    QUERY,
    failure_of,
    job,
    result_of,
    result_of_job,
)
from tests.integration.stand_ins import StandInWorker, begin

SAID = r"job mine has ended \((done|failed|cancelled)\), but its result .*; submit the job again"


@pytest.fixture(params=["done", "failed", "dead", "cancelled", "forgotten"])
def gone(request: pytest.FixtureRequest, reranker: RerankClient, store: JobStore) -> str:
    """End the job `mine` without leaving its outcome."""
    how: str = request.param
    schema = store.schema
    reranker.submit(QUERY, DOCUMENTS, job_id="mine")
    if how == "cancelled":
        reranker.cancel("mine")
    elif how in ("done", "forgotten"):
        store.execute(outcomes.finish(schema, result_of("mine")))
    else:
        store.execute(outcomes.finish(schema, failure_of("mine"), dead_letter=how == "dead"))
    if how == "forgotten":
        reranker.forget("mine")
    else:
        store.client.delete(schema.keys.outcome("mine"))  # as if it had expired
    return how


def test_whoever_asks_is_told_that_the_result_has_expired(
    gone: str, reranker: RerankClient, settings: Settings
) -> None:
    async def ask() -> jobs.JobStatus:
        async with AsyncRerankClient(settings) as other:
            with pytest.raises(ResultExpired, match=SAID):
                await other.result("mine", 0)
            return await other.status("mine")

    with pytest.raises(ResultExpired, match=SAID):
        reranker.result("mine", 0)
    status = reranker.status("mine")
    assert (status.outcome_kept, status.ended_at is not None) == (False, True)
    assert asyncio.run(ask()) == status
    environment = {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
    }
    result = CliRunner(env=environment).invoke(main, ["result", "mine"])
    shown = CliRunner(env=environment).invoke(main, ["status", "mine"])
    assert result.exit_code == common.EXIT_NOT_FOUND
    assert "its result has expired" in result.stderr
    assert "expired or removed" in shown.stdout


def test_who_submits_it_again_has_it_scored_again(
    gone: str, reranker: RerankClient, settings: Settings, client: redis.Redis
) -> None:
    with StandInWorker(settings, result_of_job):
        result = reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=30)

    assert (result.job_id, result.provenance.attempts) == ("mine", 1)
    status = reranker.status("mine")
    assert (status.state, status.code, status.attempts) == (JobState.DONE, None, 1)
    assert [message.id for message in messages(client, settings)] == ["mine", "mine"]
    assert reranker.count_dead_letters() == 0


def test_the_asyncio_client_has_it_scored_again_too(gone: str, settings: Settings) -> None:
    async def rerank() -> jobs.JobResult:
        async with AsyncRerankClient(settings) as reranker:
            return await reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=30)

    with StandInWorker(settings, result_of_job):
        assert asyncio.run(rerank()).job_id == "mine"


def test_while_the_result_is_kept_nothing_is_scored_again(
    reranker: RerankClient, settings: Settings
) -> None:
    with StandInWorker(settings, result_of_job) as worker:
        first = reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=30)
        assert reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=30) == first
    assert len(worker.taken) == 1


def test_a_new_job_under_an_old_id_does_not_find_the_result_of_the_old_one(
    store: JobStore, settings: Settings
) -> None:
    """Submit other contents after the state of a job was lost before its outcome."""
    schema = store.schema
    store.execute(submissions.accept(schema, job("mine")))
    store.execute(outcomes.finish(schema, result_of("mine")))
    store.client.delete(schema.keys.job("mine"))

    store.execute(submissions.accept(schema, job("mine", query="another query")))

    assert store.execute(outcomes.fetch(schema, ["mine"])) == {}
    assert store.execute(payload(schema, "mine")).requests[0].query == "another query"


def test_a_state_is_remembered_as_long_as_what_belongs_to_it(
    store: JobStore, settings: Settings
) -> None:
    """Read a result as long as it exists, whatever the settings are."""
    limits = {"job_ttl_s": 100, "payload_ttl_s": 200, "result_ttl_s": 300}
    schema = Schema(settings.model_copy(update=limits))
    keys = schema.keys

    store.execute(submissions.accept(schema, job("mine")))
    assert store.client.ttl(keys.job("mine")) >= store.client.ttl(keys.payload("mine"))
    store.execute(begin(schema, "mine"))
    store.execute(outcomes.finish(schema, result_of("mine")))
    assert store.client.ttl(keys.job("mine")) >= store.client.ttl(keys.outcome("mine"))
