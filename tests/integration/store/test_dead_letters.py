"""A failed job with a sound payload is kept, to be retried or dropped."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from contract import jobs
from contract.errors import JobNotFound, PayloadMissing
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import (
    dead_letters,
    outcomes,
    statuses,
    submissions,
)
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of, payload
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from tests.integration.store.dying_jobs import die, ids, state_of, totals


def test_a_dead_letter_is_a_failed_job_whose_payload_is_kept_as_long_as_its_state(
    store: JobStore, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    made = job("j", requests=2)
    die(store, made)

    assert ids(store) == ["j"]
    assert state_of(store, "j") == JobState.FAILED
    assert store.execute(outcomes.fetch(schema, ["j"])) == {"j": failure_of("j", "out_of_memory")}
    assert store.execute(dead_letters.load_job(schema, "j")) == made
    for key in (schema.keys.payload("j"), schema.keys.job("j"), schema.keys.dead):
        left: Any = client.ttl(key)
        assert settings.job_ttl_s - 60 <= left <= settings.job_ttl_s
    assert totals(store) == (0, 1, 1)


def test_a_letter_tells_what_is_known_of_its_job(store: JobStore, schema: Schema) -> None:
    die(store, job("j", requests=2, documents=3), "time_limit", priority=3)
    status = store.execute(statuses.fetch(schema, "j"))

    (letter,) = store.execute(dead_letters.fetch(schema, ["j"]))

    assert letter == jobs.DeadLetter(
        job_id="j",
        code="time_limit",
        message="the model failed",
        attempts=2,
        deaths=1,
        requests=2,
        pairs=6,
        submitted_at=status.submitted_at,
        ended_at=status.ended_at or 0.0,
        priority=3,
        payload_kept=True,
    )


def test_the_last_to_die_is_listed_first(store: JobStore) -> None:
    for name in ("b", "a", "c"):
        die(store, job(name))

    assert ids(store) == ["c", "a", "b"]
    assert ids(store, 2) == ["c", "a"]
    assert ids(store, 1) == ["c"]


def test_letters_are_those_of_the_dead_in_the_order_asked_for(
    store: JobStore, schema: Schema
) -> None:
    # Given jobs in all states
    for name in ("queued", "running", "done", "failed"):
        store.execute(submissions.accept(schema, job(name)))
    store.execute(begin(schema, "running"))
    store.execute(outcomes.finish(schema, result_of("done")))
    store.execute(outcomes.finish(schema, failure_of("failed")))
    die(store, job("dead"))
    die(store, job("later"))
    # When all are asked for
    asked = ["later", "queued", "running", "done", "failed", "unknown", "dead"]
    found = store.execute(dead_letters.fetch(schema, asked))
    # Then only the dead have letters
    assert [letter.job_id for letter in found] == ["later", "dead"]


@pytest.mark.parametrize("end", [failure_of("j"), result_of("j"), failure_of("j", "cancelled")])
def test_what_ended_otherwise_has_no_payload_and_is_no_dead_letter(
    store: JobStore, schema: Schema, end: jobs.Outcome
) -> None:
    store.execute(submissions.accept(schema, job("j")))
    store.execute(outcomes.finish(schema, end, dead_letter=isinstance(end, jobs.JobResult)))

    assert ids(store) == []
    with pytest.raises(JobNotFound, match=r"job j is not a dead letter; run `rerankq dead list`"):
        store.execute(dead_letters.load_job(schema, "j"))
    with pytest.raises(PayloadMissing):
        store.execute(payload(schema, "j"))


def test_a_job_that_has_ended_does_not_become_a_dead_letter(
    store: JobStore, schema: Schema
) -> None:
    store.execute(submissions.accept(schema, job("j")))
    store.execute(outcomes.finish(schema, result_of("j")))

    assert not store.execute(outcomes.finish(schema, failure_of("j"), dead_letter=True))

    assert ids(store) == []


def test_who_forgets_a_dead_letter_leaves_none_that_cannot_be_retried(
    store: JobStore, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    die(store, job("j"))

    store.execute(outcomes.forget(schema, "j"))

    assert ids(store) == []
    assert store.execute(dead_letters.fetch(schema, ["j"])) == []
    assert not client.exists(schema.keys.outcome("j"), schema.keys.payload("j"))
    assert state_of(store, "j") == JobState.FAILED
    left: Any = client.ttl(schema.keys.job("j"))
    assert left <= 2 * settings.visibility_timeout_s


def test_the_letters_of_expired_jobs_are_struck_off_by_the_next_that_dies(
    store: JobStore, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    die(store, job("old"))
    client.zincrby(schema.keys.dead, -settings.job_ttl_s - 1, "old")

    die(store, job("new"))

    assert ids(store) == ["new"]


def test_a_dropped_letter_stays_failed_and_has_no_payload(
    store: JobStore, schema: Schema, client: redis.Redis
) -> None:
    made = job("j")
    die(store, made)

    assert store.execute(dead_letters.drop(schema, "j"))

    assert ids(store) == []
    assert not client.exists(schema.keys.payload("j"))
    assert state_of(store, "j") == JobState.FAILED
    assert store.execute(outcomes.fetch(schema, ["j"])) == {"j": failure_of("j", "out_of_memory")}
    assert totals(store) == (0, 1, 0)
    assert not store.execute(dead_letters.drop(schema, "j"))
    assert not store.execute(dead_letters.requeue(schema, made))


def test_dropping_what_is_no_dead_letter_changes_nothing(store: JobStore, schema: Schema) -> None:
    store.execute(submissions.accept(schema, job("j")))

    assert not store.execute(dead_letters.drop(schema, "j"))
    assert not store.execute(dead_letters.drop(schema, "unknown"))

    assert store.execute(payload(schema, "j")).id == "j"
    assert state_of(store, "j") == JobState.QUEUED


def test_every_key_has_a_time_to_live_after_each_step(
    store: JobStore, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    made = job("j")
    for step in (
        lambda: die(store, made),
        lambda: store.execute(dead_letters.requeue(schema, made)),
        lambda: store.execute(outcomes.finish(schema, failure_of("j"), dead_letter=True)),
        lambda: store.execute(dead_letters.drop(schema, "j")),
    ):
        step()
        found = keys_of(client, settings)
        assert found
        assert [key for key in found if client.ttl(key) == -1] == []
