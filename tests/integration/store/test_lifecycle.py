"""Whatever the order and number of its events, a job has attempts, one end and keys that expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from contract import jobs
from contract.errors import (
    JobNotFound,
    RedisUnavailable,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import attempts, dead_letters, outcomes, overview, statuses, submissions
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import LEASE_S, begin
from tests.integration.store.conftest import Execute, live_jobs


def test_each_start_is_an_attempt(execute: Execute, schema: Schema) -> None:
    made = job()
    execute(submissions.accept(schema, made))

    counted = []
    for token in ("one", "two", "three"):
        counted.append(execute(begin(schema, made.id, token)).attempts)
        execute(attempts.release(schema, made.id, token))
    counted.append(execute(begin(schema, made.id)).attempts)

    status = execute(statuses.fetch(schema, made.id))
    assert counted == [1, 2, 3, 4]
    assert (status.state, status.attempts) == (JobState.RUNNING, 4)


def test_a_started_job_is_running_and_no_longer_queued(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    made = job()
    execute(submissions.accept(schema, made))
    assert live_jobs(client, schema) == ({made.id}, set())

    execute(begin(schema, made.id))

    assert live_jobs(client, schema) == (set(), {made.id})


@pytest.mark.parametrize("end", [result_of, failure_of], ids=["result", "failure"])
def test_an_ended_job_is_not_started_again(
    execute: Execute, schema: Schema, end: Callable[[str], jobs.Outcome]
) -> None:
    # Given a job that ended in its second attempt
    made = job()
    execute(submissions.accept(schema, made))
    execute(begin(schema, made.id, "first"))
    execute(attempts.release(schema, made.id, "first"))
    assert execute(begin(schema, made.id)).attempts == 2
    execute(outcomes.finish(schema, end(made.id)))
    before = execute(statuses.fetch(schema, made.id))
    # When its message is delivered again
    late = execute(begin(schema, made.id))
    # Then there is nothing to do, and no attempt is counted
    assert (late.verdict, late.attempts) == (attempts.Verdict.ENDED, 0)
    assert execute(statuses.fetch(schema, made.id)) == before


LATE = ("forgotten", "expired", "dropped", "cancelled", "never-accepted")


@pytest.mark.parametrize("late", LATE)
def test_a_late_message_adds_no_end_to_a_job_whose_record_has_gone(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings, late: str
) -> None:
    # Given a job that ended, and whose record expired afterwards
    if late != "never-accepted":
        execute(submissions.accept(schema, job("j")))
        execute(begin(schema, "j", "token"))
    if late == "forgotten":
        execute(outcomes.finish(schema, result_of("j"), "token"))
        execute(outcomes.forget(schema, "j"))
    if late == "dropped":
        execute(outcomes.finish(schema, failure_of("j"), "token", dead_letter=True))
        execute(dead_letters.drop(schema, "j"))
    if late == "cancelled":
        execute(outcomes.finish(schema, failure_of("j", jobs.CANCELLED)))
    client.delete(schema.keys.job("j"))
    client.zrem(schema.keys.running, "j")
    ends = execute(overview.status(schema, [])).jobs
    before = keys_of(client, settings)
    # When a copy of its message is delivered
    started = execute(begin(schema, "j"))
    recorded = execute(outcomes.finish(schema, failure_of("j", "payload_missing"), "token"))
    execute(submissions.mark_sent(schema, "j"))
    # Then nothing is recorded
    assert (started.verdict, recorded) == (attempts.Verdict.UNKNOWN, False)
    assert execute(overview.status(schema, [])).jobs == ends
    assert keys_of(client, settings) == before


def test_every_key_has_a_time_to_live_of_its_kind(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    # Given jobs in all states
    for name in ("queued", "running", "done", "failed", "dead", "forgotten"):
        execute(submissions.accept(schema, job(name)))
        execute(submissions.mark_sent(schema, name))
        if name != "queued":
            execute(begin(schema, name))
    for outcome in (result_of("done"), failure_of("failed"), result_of("forgotten")):
        execute(outcomes.finish(schema, outcome))
    execute(outcomes.finish(schema, failure_of("dead"), dead_letter=True))
    execute(outcomes.forget(schema, "forgotten"))
    # Then each key expires, after the time for its kind
    keys = schema.keys
    longest = dict.fromkeys(keys_of(client, settings), settings.job_ttl_s)
    for name in ("queued", "running"):
        longest[keys.payload(name)] = settings.payload_ttl_s
    longest[keys.lease("running")] = LEASE_S
    for name in ("done", "failed", "dead"):
        longest[keys.outcome(name)] = settings.result_ttl_s
    longest[keys.job("forgotten")] = 2 * settings.visibility_timeout_s
    left: dict[str, Any] = {key: client.ttl(key) for key in longest}
    there = set(keys_of(client, settings))
    assert set(longest) == there
    assert {keys.queued, keys.running, keys.totals, keys.dead, keys.payload("dead")} < there
    assert {
        key: ttl for key, ttl in left.items() if not longest[key] - 60 <= ttl <= longest[key]
    } == {}


def test_an_unknown_job_has_no_status(execute: Execute, schema: Schema) -> None:
    with pytest.raises(JobNotFound, match="never-was"):
        execute(statuses.fetch(schema, "never-was"))


def test_two_namespaces_on_one_server_know_nothing_of_each_other(
    execute: Execute, schema: Schema, settings: Settings
) -> None:
    other = Schema(settings.model_copy(update={"namespace": f"{settings.namespace}-2"}))
    execute(submissions.accept(schema, job("j")))
    execute(outcomes.finish(schema, result_of("j")))

    with pytest.raises(JobNotFound):
        execute(statuses.fetch(other, "j"))
    assert execute(overview.status(other, [])).jobs == dict.fromkeys(JobState, 0)


def test_a_command_that_redis_refuses_is_one_error_of_ours(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    """Report a key of another type, which another program may have written."""
    client.set(schema.keys.job("j"), "not a hash", ex=60)

    with pytest.raises(RedisUnavailable, match="refused the command"):
        execute(statuses.fetch(schema, "j"))
