"""Each end of an attempt is recorded and logged, and its job is queued again if it continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery.exceptions import Ignore, Retry

from contract import jobs, names
from contract.errors import PayloadMissing
from contract.settings import Settings
from contract.store import attempts, outcomes, statuses
from contract.store.blocking import JobStore
from tests.integration.deliveries import HUNGRY, LEASE_S, SMALLER, Delivery, accept, headers
from tests.integration.sample_records import failure_of, result_of
from tests.integration.stand_ins import begin


@contextmanager
def delivering(settings: Settings, model: str = "stub", **more: Any) -> Iterator[Delivery]:
    made = Delivery(settings, model, **more)
    yield made
    made.app.close()


@pytest.fixture
def delivery(settings: Settings) -> Iterator[Delivery]:
    with delivering(settings) as made:
        yield made


@pytest.fixture
def hungry(settings: Settings) -> Iterator[Delivery]:
    with delivering(settings, HUNGRY) as made:
        yield made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in caplog.messages if each.startswith("Job j ")]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def test_a_job_is_scored_and_its_result_recorded(
    delivery: Delivery, store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    accept(store)

    summary = delivery.run("j")

    assert (summary["model"], summary["pairs"]) == ("stub", 2)
    assert isinstance(store.execute(outcomes.fetch(store.schema, ["j"]))["j"], jobs.JobResult)
    assert [line.split(":")[0] for line in lines(caplog)] == ["Job j running", "Job j done"]


def test_a_job_that_another_attempt_has_comes_again_when_that_may_have_died(
    delivery: Delivery,
    store: JobStore,
    client: redis.Redis,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    accept(store)
    store.execute(begin(store.schema, "j"))

    with pytest.raises(Retry):
        delivery.run("j")

    (sent,) = headers(client, settings)
    assert (sent["id"], sent["delay_s"]) == ("j", LEASE_S)
    assert lines(caplog) == ["Job j deferred: another attempt is running; retrying in 30 s"]
    assert store.execute(statuses.fetch(store.schema, "j")).attempts == 1


def test_a_job_whose_model_has_no_memory_goes_to_the_downgrade_model(
    hungry: Delivery,
    store: JobStore,
    client: redis.Redis,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    accept(store)

    # When the first attempt runs out of memory
    with pytest.raises(Retry):
        hungry.run("j")

    # Then the job waits for another one, and Flower hears its model
    (sent,) = headers(client, settings)
    assert sent["shadow"].startswith(names.SCORE_TASK + "[")
    assert store.execute(statuses.fetch(store.schema, "j")).state is jobs.JobState.QUEUED
    assert "(out_of_memory): retrying with stub:scale=2" in lines(caplog)[-1]
    # And the second one scores it
    assert hungry.run("j")["model"] == SMALLER
    result = store.execute(outcomes.fetch(store.schema, ["j"]))["j"]
    assert isinstance(result, jobs.JobResult)
    assert (result.provenance.downgraded, result.provenance.reason) == (True, "out_of_memory")


def kill(store: JobStore, job_id: str = "j", *, gpu_failed: bool) -> None:
    """Start an attempt whose process ends without an outcome."""
    store.execute(begin(store.schema, job_id, "lost"))
    if gpu_failed:
        assert store.execute(attempts.note_gpu_failure(store.schema, job_id, "lost"))
    assert store.execute(attempts.release(store.schema, job_id, "lost", died=True))


@pytest.mark.parametrize(
    ("ends", "model"),
    [
        (["gpu"], "stub"),
        (["killed"], SMALLER),
        (["gpu", "gpu"], SMALLER),
        (["gpu", "killed"], SMALLER),
        (["killed", "gpu"], SMALLER),
    ],
    ids=" then ".join,
)
def test_a_smaller_model_scores_a_job_after_a_kill_or_the_second_failure_of_a_gpu(
    delivery: Delivery, store: JobStore, ends: list[str], model: str
) -> None:
    accept(store)
    for end in ends:
        kill(store, gpu_failed=end == "gpu")

    assert delivery.run("j")["model"] == model

    result = store.execute(outcomes.fetch(store.schema, ["j"]))["j"]
    assert isinstance(result, jobs.JobResult)
    assert result.provenance.reason == (jobs.WORKER_DIED if model == SMALLER else None)


@pytest.mark.parametrize(
    ("max_attempts", "models"), [(2, [SMALLER]), (3, ["stub", SMALLER]), (4, ["stub", SMALLER])]
)
def test_no_job_ends_by_failures_of_gpus_before_a_smaller_model_has_tried(
    store: JobStore, settings: Settings, max_attempts: int, models: list[str]
) -> None:
    tried = []
    for failures in range(1, len(models) + 1):
        with delivering(settings, max_attempts=max_attempts) as delivery:
            accept(store, f"j{failures}")
            for _ in range(failures):
                kill(store, f"j{failures}", gpu_failed=True)
            tried.append(delivery.run(f"j{failures}")["model"])
    assert tried == models


def test_the_failure_of_a_gpu_does_not_undo_a_downgrade(hungry: Delivery, store: JobStore) -> None:
    accept(store)
    with pytest.raises(Retry):
        hungry.run("j")
    kill(store, gpu_failed=True)

    assert hungry.run("j")["model"] == SMALLER

    result = store.execute(outcomes.fetch(store.schema, ["j"]))["j"]
    assert isinstance(result, jobs.JobResult)
    assert result.provenance.reason == "out_of_memory"


def test_only_the_current_attempt_can_note_that_its_gpu_failed(store: JobStore) -> None:
    accept(store)
    store.execute(begin(store.schema, "j", "current"))
    assert not store.execute(attempts.note_gpu_failure(store.schema, "j", "earlier"))
    store.execute(attempts.release(store.schema, "j", "current"))
    assert store.execute(begin(store.schema, "j", "next")).downgrade is None


def test_a_job_that_cannot_be_done_fails_with_the_error_that_is_on_record(
    delivery: Delivery, store: JobStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    accept(store)
    client.delete(store.schema.keys.payload("j"))

    with pytest.raises(PayloadMissing) as raised:
        delivery.run("j")

    failure = store.execute(outcomes.fetch(store.schema, ["j"]))["j"]
    assert isinstance(failure, jobs.Failure)
    assert (failure.code, failure.message) == ("payload_missing", str(raised.value))
    assert "Job j failed" in lines(caplog)[-1]


def test_a_job_that_was_cancelled_is_left_as_it_is(
    delivery: Delivery,
    store: JobStore,
    client: redis.Redis,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    accept(store)
    status = store.execute(statuses.fetch(store.schema, "j"))
    store.execute(outcomes.finish(store.schema, jobs.cancellation(status, "revoked")))

    with pytest.raises(Ignore):
        delivery.run("j")

    assert headers(client, settings) == []
    assert lines(caplog) == ["Job j skipped (cancelled): the job has already ended"]


@pytest.mark.parametrize(
    "other", [failure_of("j"), failure_of("j", jobs.CANCELLED)], ids=["failed", "cancelled"]
)
def test_an_attempt_that_comes_too_late_leaves_the_outcome_that_there_is(
    delivery: Delivery, store: JobStore, caplog: pytest.LogCaptureFixture, other: jobs.Failure
) -> None:
    accept(store)
    with delivery.attempt("j") as attempt:
        attempt.start()
        store.execute(outcomes.finish(store.schema, other))

        with pytest.raises(Ignore):
            attempt.finish(result_of("j"))

    assert store.execute(outcomes.fetch(store.schema, ["j"]))["j"] == other
    expected = "cancelled" if other.code == jobs.CANCELLED else "skipped"
    assert lines(caplog)[-1].startswith(f"Job j {expected}")
