"""Jobs that end while Flower is away are not shown as running forever."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.events.state import Task

from contract import jobs, names
from contract.settings import Settings
from contract.store import outcomes
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer import RerankClient
from producer.cli.loopback import free_port
from tests.flower_process import Flower
from tests.processes import wait_until
from worker.monitoring import flower_state

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
    store = JobStore(connection, Schema(settings))
    with connection, RerankClient(settings) as client:
        # Given a Flower that knows five jobs
        with Flower(settings, tmp_path, **SAVING_OFTEN) as flower:
            wait_until(lambda: bool(client.submit("q", ["d"]) and flower.tasks()), "it listens")
            heard = [client.submit("query", ["a document"]) for _ in range(5)]
            wait_until(lambda: set(heard) <= set(flower.tasks()), "Flower shows the jobs")
            saved = flower.saved()
            wait_until(lambda: flower.saved() > saved, "Flower has saved them")
            flower.process.send_signal(how)
            flower.process.wait(30)
        done, failed, cancelled, forgotten, waiting = heard

        # When four of them end while it is away, one without a record
        store.execute(outcomes.finish(store.schema, result(done)))
        store.execute(outcomes.finish(store.schema, failure(failed)))
        client.cancel(cancelled)
        connection.delete(store.schema.keys.job(forgotten))

        # Then it shows their ends once it is back
        with Flower(settings, tmp_path, **SAVING_OFTEN) as flower:
            shown: dict[str, dict[str, Any]] = flower.tasks()
            assert shown[done]["state"] == "SUCCESS"
            assert "ended while Flower was not connected" in shown[done]["result"]
            assert shown[failed]["state"] == "FAILURE"
            assert shown[failed]["exception"] == "bad_scores: ended while Flower was not connected"
            assert shown[cancelled]["state"] == "REVOKED"
            assert shown[forgotten]["state"] == "UNKNOWN"
            assert shown[waiting]["state"] == "PENDING"
            page = flower.get(f"/task/{done}")
            assert "ended while Flower was not connected" in page


def test_a_task_of_which_nothing_was_heard_is_looked_up_when_it_is_shown(
    settings: Settings, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as connection, RerankClient(settings) as client:
        store = JobStore(connection, Schema(settings))
        corrector = flower_state.TaskCorrector(store)
        job_id = client.submit("query", ["a document"])
        quiet, recent = (
            Task(uuid=job_id, name=names.SCORE_TASK, state="STARTED", timestamp=time.time() - ago_s)
            for ago_s in (flower_state.QUIET_S + 1, 0)
        )

        # Given a job that has not ended, then nothing is changed
        corrector.correct(quiet)
        assert quiet.state == "STARTED"

        # When it has, then Flower shows the end of its task, which sent no event for a while
        store.execute(outcomes.finish(store.schema, result(job_id)))
        corrector.correct(quiet)
        corrector.correct(recent)
        assert (quiet.state, recent.state) == ("SUCCESS", "STARTED")


def test_a_lookup_without_redis_is_not_tried_for_each_task() -> None:
    # Given a Redis that is away
    settings = Settings.load(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as connection:
        corrector = flower_state.TaskCorrector(JobStore(connection, Schema(settings)))
        tasks = [Task(uuid=str(n), name=names.SCORE_TASK, state="STARTED") for n in range(3)]

        # When many tasks are shown, then they are unchanged, and only one was looked up
        for task in tasks:
            corrector.correct(task)
        assert {task.state for task in tasks} == {"STARTED"}
        assert corrector.paused
