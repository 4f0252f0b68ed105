"""A dead letter becomes a new job once, unless the queue is too long."""

from __future__ import annotations

import pytest
import redis

from contract.errors import JobConflict, LimitExceeded, PayloadMissing
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import attempts, dead_letters, encoding, outcomes, statuses, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of, payload
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from tests.integration.store.dying_jobs import die, ids, state_of, totals


def test_a_requeued_job_is_as_new(store: JobStore, schema: Schema, client: redis.Redis) -> None:
    # Given a dead letter
    made = job("j", requests=2, documents=3)
    die(store, made)
    died_at = store.execute(statuses.fetch(schema, "j")).ended_at
    assert died_at is not None
    # When it is requeued
    assert store.execute(dead_letters.requeue(schema, made))
    # Then only its size is left of the failed job
    status = store.execute(statuses.fetch(schema, "j"))
    assert (status.state, status.pairs, status.requests) == (JobState.QUEUED, 6, 2)
    assert (status.attempts, status.code) == (0, None)
    assert (status.started_at, status.ended_at) == (None, None)
    assert status.submitted_at >= died_at
    assert store.execute(outcomes.fetch(schema, ["j"])) == {}
    assert ids(store) == []
    assert totals(store) == (1, 0, 0)
    assert not client.hexists(schema.keys.job("j"), "message")
    # And a worker begins it with its contents
    started = store.execute(begin(schema, "j"))
    assert (started.attempts, started.deaths, started.downgrade) == (1, 0, None)
    assert encoding.decode_job(schema.settings, "j", started.payload).job() == made


def test_a_requeued_job_is_not_yet_sent(store: JobStore, schema: Schema) -> None:
    made = job("j")
    die(store, made)
    store.execute(dead_letters.requeue(schema, made))

    assert not store.execute(submissions.accept(schema, made)).sent


def test_a_job_requeued_with_another_model_is_another_job_under_its_id(
    store: JobStore, schema: Schema
) -> None:
    # Given a dead letter that is requeued with another model
    made = job("j")
    other = made.model_copy(update={"model": "bundled"})
    die(store, made)
    assert store.execute(dead_letters.requeue(schema, other))
    # When its caller submits it again, then the new contents are those stored
    store.execute(submissions.accept(schema, other))
    with pytest.raises(JobConflict):
        store.execute(submissions.accept(schema, made))
    assert store.execute(payload(schema, "j")) == other


def test_a_requeued_job_may_end_and_die_again(store: JobStore, schema: Schema) -> None:
    made = job("j")
    die(store, made)
    store.execute(dead_letters.requeue(schema, made))
    store.execute(begin(schema, "j"))
    store.execute(outcomes.finish(schema, failure_of("j"), dead_letter=True))
    assert (ids(store), totals(store)) == (["j"], (0, 1, 1))

    store.execute(dead_letters.requeue(schema, made))
    store.execute(outcomes.finish(schema, result_of("j")))

    assert state_of(store, "j") == JobState.DONE
    assert (ids(store), totals(store)) == ([], (0, 0, 0))
    assert store.execute(outcomes.fetch(schema, ["j"])) == {"j": result_of("j")}


def test_a_letter_is_requeued_once(store: JobStore, schema: Schema) -> None:
    made = job("j")
    die(store, made)

    assert store.execute(dead_letters.requeue(schema, made))
    assert not store.execute(dead_letters.requeue(schema, made))

    assert totals(store) == (1, 0, 0)


@pytest.mark.parametrize("state", ["queued", "running", "done", "failed", "unknown"])
def test_what_is_no_dead_letter_is_not_requeued(
    store: JobStore, schema: Schema, client: redis.Redis, settings: Settings, state: str
) -> None:
    made = job("j")
    if state != "unknown":
        store.execute(submissions.accept(schema, made))
    if state == "running":
        store.execute(begin(schema, "j"))
    if state in ("done", "failed"):
        store.execute(
            outcomes.finish(schema, result_of("j") if state == "done" else failure_of("j"))
        )
    before = keys_of(client, settings), totals(store)

    assert not store.execute(dead_letters.requeue(schema, made))

    assert (keys_of(client, settings), totals(store)) == before


def test_a_letter_whose_records_have_expired_is_not_requeued(
    store: JobStore, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    """Keep its id while other letters keep the list of ids alive."""
    made = job("j")
    die(store, made)
    client.delete(schema.keys.job("j"), schema.keys.payload("j"), schema.keys.outcome("j"))

    assert store.execute(dead_letters.fetch(schema, ["j"])) == []
    with pytest.raises(PayloadMissing):
        store.execute(dead_letters.load_job(schema, "j"))
    assert not store.execute(dead_letters.requeue(schema, made))
    assert not client.exists(schema.keys.job("j"))


def test_a_new_job_under_the_id_of_a_letter_whose_records_have_expired_is_none(
    store: JobStore, schema: Schema, client: redis.Redis
) -> None:
    # Given a letter whose records have expired, and a new job with the same id
    made = job("j")
    die(store, made)
    client.delete(schema.keys.job("j"), schema.keys.payload("j"), schema.keys.outcome("j"))
    store.execute(submissions.accept(schema, made))
    assert ids(store) == ["j"]
    # Then it has no letter, and can be neither requeued nor dropped: it is running
    assert store.execute(dead_letters.fetch(schema, ["j"])) == []
    store.execute(begin(schema, "j", "token"))
    again = {
        "requeue": dead_letters.requeue(schema, made),
        "drop": dead_letters.drop(schema, "j"),
    }
    for operation in again.values():
        client.zadd(schema.keys.dead, {"j": 1}, nx=True)
        client.expire(schema.keys.dead, 60)
        assert not store.execute(operation)
        assert state_of(store, "j") == JobState.RUNNING
        assert store.execute(payload(schema, "j")) == made
    assert store.execute(attempts.renew(schema, "j", "token", 30))


def test_a_job_that_would_be_too_large_is_not_requeued_and_stays_a_letter(
    store: JobStore, settings: Settings
) -> None:
    made = job("j")
    die(store, made)
    strict = Schema(settings.model_copy(update={"max_bytes_per_job": 10}))

    with pytest.raises(LimitExceeded):
        store.execute(dead_letters.requeue(strict, made))

    assert ids(store) == ["j"]
