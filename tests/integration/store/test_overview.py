"""The state of the service counts jobs by state and messages by priority."""

from __future__ import annotations

import redis
import redis.asyncio

from contract import jobs, names
from contract.jobs import JobState
from contract.store import outcomes, overview, submissions
from contract.store.operation import Schema
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from tests.integration.store.conftest import Execute


def test_the_queue_counts_jobs_by_state(execute: Execute, schema: Schema) -> None:
    for name in ("q1", "q2", "q3", "r1", "r2", "d1", "f1", "c1"):
        execute(submissions.accept(schema, job(name)))
    for name in ("r1", "r2", "d1"):
        execute(begin(schema, name))
    for outcome in (result_of("d1"), failure_of("f1"), failure_of("c1", jobs.CANCELLED)):
        execute(outcomes.finish(schema, outcome))

    status = execute(overview.status(schema, ["one", "two"]))

    assert status.workers == ("one", "two")
    assert status.jobs == {
        JobState.QUEUED: 3,
        JobState.RUNNING: 2,
        JobState.DONE: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 1,
    }


def test_the_queue_of_an_unused_service_is_empty(execute: Execute, schema: Schema) -> None:
    status = execute(overview.status(schema, []))

    assert (status.queue_depth, status.in_flight, status.unacked) == (0, 0, 0)
    assert status.oldest_queued_s is None
    assert status.jobs == dict.fromkeys(JobState, 0)


def test_the_queue_counts_messages_of_all_priorities_and_those_that_workers_hold(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    for name in schema.keys.queue_lists:
        client.rpush(name, "one", "two")
        client.expire(name, 60)
    client.hset(schema.keys.unacked, "tag", "message")

    status = execute(overview.status(schema, []))

    assert status.queue_depth == 2 * len(names.PRIORITY_STEPS)
    assert status.queue_lengths == dict.fromkeys(names.PRIORITY_STEPS, 2)
    assert (status.unacked, status.in_flight) == (1, 0)


def test_pairs_are_counted_until_their_job_ends(execute: Execute, schema: Schema) -> None:
    for name, pairs in (("small", 3), ("large", 40), ("started", 5), ("done", 7)):
        execute(submissions.accept(schema, job(name, documents=pairs)))
    for name in ("started", "done"):
        execute(begin(schema, name))
    execute(outcomes.finish(schema, result_of("done")))

    status = execute(overview.status(schema, []))

    assert status.pairs == {JobState.QUEUED: 43, JobState.RUNNING: 5}


def test_the_pairs_of_many_jobs_are_estimated(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    # Given 2,000 jobs with 100 pairs, 2,000 with 300 pairs, and one without a record
    pipe = client.pipeline()
    for place in range(4_000):
        pipe.hset(schema.keys.job(f"job-{place}"), "pairs", 100 if place < 2_000 else 300)
        pipe.expire(schema.keys.job(f"job-{place}"), 60)
        pipe.zadd(schema.keys.queued, {f"job-{place}": place})
    pipe.zadd(schema.keys.queued, {"expired": 4_000})
    pipe.expire(schema.keys.queued, 60)
    pipe.execute()
    client.config_resetstat()

    # When the service is asked for its status
    status = execute(overview.status(schema, []))

    # Then the number of pairs is within a hundredth, and only a part of the records was read
    assert abs(status.pairs[JobState.QUEUED] - 800_000) < 8_000
    assert client.info("commandstats")["cmdstat_hget"]["calls"] == overview.COUNTED_JOBS
