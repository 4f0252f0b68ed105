"""Jobs that end while Flower is away are not shown as running for ever."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from contract import jobs
from contract.records import Records
from contract.settings import Settings
from contract.store import JobStore
from producer import RerankClient
from tests.acceptance.watching.parts import Flower
from tests.processes import wait_until

SAVING_OFTEN = {"FLOWER_STATE_SAVE_INTERVAL": "200"}


def result(job_id: str) -> jobs.JobResult:
    document = jobs.RankedDocument(id="0", index=0, rank=1, score=1.0, relevance=0.7)
    return jobs.JobResult(
        job_id=job_id,
        rankings=(jobs.Ranking(query_id="0", documents=(document,)),),
        provenance=jobs.Provenance(
            model_requested="m",
            model="m",
            attempts=1,
            backend="torch",
            device="cpu",
            dtype="float32",
            max_length=512,
            pairs=1,
            unique_pairs=1,
            tokens=1,
            truncated=0,
            seconds=0.1,
        ),
    )


def failure(job_id: str) -> jobs.Failure:
    return jobs.Failure(job_id=job_id, code="bad_scores", message="m", retryable=False, attempts=1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_ended_meanwhile_has_its_end_from_the_record(
    settings: Settings, redis_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    connection = redis.Redis.from_url(redis_url)
    store = JobStore(connection, Records(settings))
    with connection, RerankClient(settings) as client:
        # Given a Flower that has heard of five jobs
        with Flower(settings, tmp_path, **SAVING_OFTEN) as flower:
            wait_until(lambda: bool(client.submit("q", ["d"]) and flower.tasks()), "it listens")
            heard = [client.submit("query", ["a document"]) for _ in range(5)]
            wait_until(lambda: set(heard) <= set(flower.tasks()), "Flower shows the jobs")
            saved = flower.saved()
            wait_until(lambda: flower.saved() > saved, "Flower has saved them")
            flower.process.send_signal(how)
            flower.process.wait(30)
        done, failed, cancelled, forgotten, waiting = heard

        # When four of them end without it, one with its record
        store.do(store.records.finish(result(done)))
        store.do(store.records.finish(failure(failed)))
        client.cancel(cancelled)
        connection.delete(store.records.keys.job(forgotten))

        # Then it shows their ends once it is back
        with Flower(settings, tmp_path, **SAVING_OFTEN) as flower:
            shown: dict[str, dict[str, Any]] = flower.tasks()
            assert shown[done]["state"] == "SUCCESS"
            assert "ended while Flower was away" in shown[done]["result"]
            assert shown[failed]["state"] == "FAILURE"
            assert shown[failed]["exception"] == "bad_scores: ended while Flower was away"
            assert shown[cancelled]["state"] == "REVOKED"
            assert shown[forgotten]["state"] == "UNKNOWN"
            assert shown[waiting]["state"] == "PENDING"
            page = flower.get(f"/task/{done}")
            assert "ended while Flower was away" in page
