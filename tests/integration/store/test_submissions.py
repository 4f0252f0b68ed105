"""A job is accepted once, whatever is submitted under its id, and only within the limits."""

from __future__ import annotations

import pytest
import redis
import redis.asyncio

from contract import jobs
from contract.columns import JobColumns
from contract.errors import (
    InvalidInput,
    JobConflict,
    LimitExceeded,
    PayloadMissing,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import outcomes, statuses, submissions
from contract.store.encoding import columns_body
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of, messages, payload
from tests.integration.sample_records import job, result_of
from tests.integration.stand_ins import begin
from tests.integration.store.conftest import Execute, live_jobs


def test_an_accepted_job_can_be_loaded_as_it_was(execute: Execute, schema: Schema) -> None:
    # Given a job that uses every field
    candidates = (
        jobs.Candidate(
            id="a/1 ü", text="Zürich\u0000 \U0001f600", score=-1.25, metadata={"n": [1, None]}
        ),
        jobs.Candidate(id="b", text=""),
    )
    full = jobs.Job(
        id="order:66.a_b-c",
        requests=(jobs.Request(query="who?", candidates=candidates, query_id="q", top_k=1),),
        model="bundled",
    )
    # When it is accepted
    execute(submissions.accept(schema, full))
    # Then a worker finds it unchanged
    assert execute(payload(schema, full.id)) == full


def test_an_accepted_job_is_queued_and_its_message_not_yet_sent(
    execute: Execute, schema: Schema
) -> None:
    made = job(requests=2, documents=3)

    accepted = execute(submissions.accept(schema, made))

    status = execute(statuses.fetch(schema, made.id))
    assert not accepted.sent
    assert (status.state, status.pairs, status.requests) == (JobState.QUEUED, 6, 2)
    assert (status.attempts, status.started_at, status.ended_at) == (0, None, None)
    assert status.code is None


def test_accepting_puts_no_message_on_the_queue(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    execute(submissions.accept(schema, job()))

    assert messages(client, settings) == []


def test_accepting_the_same_job_again_changes_nothing(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    # Given a job that a worker has started
    made = job()
    execute(submissions.accept(schema, made))
    execute(begin(schema, made.id))
    before = execute(statuses.fetch(schema, made.id))
    # When it is submitted again
    execute(submissions.accept(schema, made))
    # Then its state is unchanged
    assert execute(statuses.fetch(schema, made.id)) == before
    assert live_jobs(client, schema) == (set(), {made.id})
    assert execute(payload(schema, made.id)) == made


def test_accepting_again_says_whether_the_message_was_sent(
    execute: Execute, schema: Schema
) -> None:
    made = job()
    execute(submissions.accept(schema, made))
    assert not execute(submissions.accept(schema, made)).sent

    execute(submissions.mark_sent(schema, made.id))

    assert execute(submissions.accept(schema, made)).sent


def test_an_id_cannot_stand_for_other_contents(execute: Execute, schema: Schema) -> None:
    # Given a stored job
    first = job("taken", query="one thing")
    execute(submissions.accept(schema, first))
    # When another one is submitted under its id
    with pytest.raises(JobConflict, match="taken") as conflict:
        execute(submissions.accept(schema, job("taken", query="another thing")))
    # Then it is the caller's error, and the first job is kept
    assert isinstance(conflict.value, InvalidInput)
    assert execute(payload(schema, "taken")) == first


def test_an_id_of_an_ended_job_cannot_stand_for_other_contents(
    execute: Execute, schema: Schema
) -> None:
    execute(submissions.accept(schema, job("taken", query="one thing")))
    execute(outcomes.finish(schema, result_of("taken")))

    with pytest.raises(JobConflict):
        execute(submissions.accept(schema, job("taken", query="another thing")))


@pytest.mark.parametrize("ending", ["payload", "outcome"])
def test_an_id_that_ends_like_a_key_of_ours_is_a_job_of_its_own(
    execute: Execute, schema: Schema, ending: str
) -> None:
    # Given two ids, one a prefix of the other
    short, long = job("a"), job(f"a:{ending}")
    # When both are accepted, and one of them ends
    execute(submissions.accept(schema, short))
    execute(submissions.accept(schema, long))
    execute(outcomes.finish(schema, result_of(short.id)))
    # Then the other is unchanged
    assert execute(statuses.fetch(schema, long.id)).state == JobState.QUEUED
    assert execute(payload(schema, long.id)) == long


def test_an_expired_payload_is_put_back_by_its_own_job_only(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    # Given a waiting job whose payload has expired
    mine = job("mine")
    execute(submissions.accept(schema, mine))
    client.delete(schema.keys.payload("mine"))

    # When another job is submitted under its id, then it is refused and leaves no payload
    other = mine.model_copy(update={"model": "bundled"})
    with pytest.raises(JobConflict):
        execute(submissions.accept(schema, other))
    with pytest.raises(PayloadMissing):
        execute(payload(schema, "mine"))

    # When the job itself is submitted again, then its payload is restored
    execute(submissions.accept(schema, mine))
    assert execute(payload(schema, "mine")) == mine


def test_a_job_of_too_many_bytes_is_refused_before_anything_is_written(
    execute: Execute, settings: Settings, client: redis.Redis
) -> None:
    made = job(query="q" * 2_000)
    size = len(columns_body(JobColumns.of(made)))
    short: Schema = Schema(settings.model_copy(update={"max_bytes_per_job": size - 1}))

    with pytest.raises(LimitExceeded, match="RERANKQ_MAX_BYTES_PER_JOB"):
        execute(submissions.accept(short, made))

    assert keys_of(client, settings) == []


def test_a_job_of_just_as_many_bytes_as_allowed_comes_through(
    execute: Execute, settings: Settings
) -> None:
    made = job(query="q" * 2_000)
    size = len(columns_body(JobColumns.of(made)))
    exact = Schema(settings.model_copy(update={"max_bytes_per_job": size}))

    execute(submissions.accept(exact, made))

    assert execute(payload(exact, made.id)) == made


def test_marking_an_unknown_job_as_sent_makes_no_record(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    execute(submissions.mark_sent(schema, "unknown"))

    assert keys_of(client, settings) == []
