"""Jobs and results can be exchanged as columns, with the same outcome as with records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from contract.columns import JobColumns, ResultColumns
from contract.errors import JobConflict, LimitExceeded
from contract.settings import Settings
from contract.store import outcomes, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client.columns import ColumnsClient
from tests.integration.redis_state import messages
from tests.integration.sample_records import failure_of, job, result_of

JOB = job("j", requests=2, documents=3)
COLUMNS = JobColumns.of(JOB)


@pytest.fixture
def columns_client(settings: Settings) -> Iterator[ColumnsClient]:
    with ColumnsClient(settings) as client:
        yield client


@pytest.fixture
def store(settings: Settings, client: redis.Redis) -> JobStore:
    return JobStore(client, Schema(settings))


def test_columns_and_the_record_of_a_job_are_the_same_submission(
    columns_client: ColumnsClient, client: redis.Redis, settings: Settings
) -> None:
    assert columns_client.submit_columns(COLUMNS) == "j"
    assert columns_client.submit_job(JOB) == "j"

    (message,) = messages(client, settings)
    assert (message.id, message.counts) == ("j", {"requests": 2, "pairs": 6})
    with pytest.raises(JobConflict):
        columns_client.submit_columns(COLUMNS.model_copy(update={"model": "bundled"}))


@pytest.mark.parametrize("as_columns", [True, False])
def test_results_are_returned_as_columns_and_as_records_however_they_are_stored(
    columns_client: ColumnsClient, store: JobStore, as_columns: bool
) -> None:
    made = result_of("j")
    columns_client.submit_columns(COLUMNS)
    for job_id in ("j", "failed"):
        store.execute(submissions.accept(store.schema, job(job_id) if job_id != "j" else JOB))
    stored = ResultColumns.of(made) if as_columns else made
    assert store.execute(outcomes.finish(store.schema, stored))
    assert store.execute(outcomes.finish(store.schema, failure_of("failed")))

    with columns_client.watch_columns() as watch:
        found = dict(watch.as_completed(["j", "failed"], timeout=30))

    assert found == {"j": ResultColumns.of(made), "failed": failure_of("failed")}
    (document,) = columns_client.result("j").documents
    assert (document.id, document.rank, document.score) == ("d1", 1, 1.5)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max_pairs_per_job": 5}, "6 pairs"),
        ({"max_text_chars": 16}, "document 'd0' has 17 characters"),
        ({"max_bytes_per_job": 50}, "RERANKQ_MAX_BYTES_PER_JOB"),
    ],
)
def test_columns_beyond_a_limit_are_refused_and_nothing_is_queued(
    settings: Settings, client: redis.Redis, limit: dict[str, int], said: str
) -> None:
    with (
        ColumnsClient(settings.model_copy(update=limit)) as columns_client,
        pytest.raises(LimitExceeded, match=said),
    ):
        columns_client.submit_columns(JobColumns.of(job("j", requests=2, documents=3, query="?")))
    assert messages(client, settings) == []
