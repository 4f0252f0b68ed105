"""A job's first outcome remains and is published once; an unreadable one affects no others."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio

from contract import jobs, metrics
from contract.errors import (
    JobNotFound,
    PayloadInvalid,
)
from contract.jobs import JobState
from contract.store import outcomes, overview, statuses, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from tests.integration.store.conftest import Execute, live_jobs


@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        (result_of("j"), JobState.DONE, None),
        (failure_of("j", "out_of_memory"), JobState.FAILED, "out_of_memory"),
        (failure_of("j", jobs.CANCELLED), JobState.CANCELLED, "cancelled"),
    ],
    ids=["result", "failure", "cancelled"],
)
def test_an_outcome_is_recorded_with_the_state_it_leads_to(
    execute: Execute, schema: Schema, outcome: jobs.Outcome, state: JobState, code: str | None
) -> None:
    execute(submissions.accept(schema, job("j")))
    execute(begin(schema, "j"))

    recorded = execute(outcomes.finish(schema, outcome))

    status = execute(statuses.fetch(schema, "j"))
    assert recorded
    assert execute(outcomes.fetch(schema, ["j"])) == {"j": outcome}
    assert (status.state, status.code) == (state, code)
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.submitted_at <= status.started_at <= status.ended_at


def counted(schema: Schema) -> Operation[tuple[dict[JobState, int], metrics.Totals]]:
    """Return the counts of all jobs."""
    status = overview.status(schema, [])

    def read(replies: list[Any]) -> tuple[dict[JobState, int], metrics.Totals]:
        found = status.read(replies)
        return found.jobs, found.counters

    return Operation(status.send, read)


@pytest.mark.parametrize(
    "late",
    [
        result_of("j", score=-9.0),
        result_of("j", downgraded=True),
        failure_of("j"),
        failure_of("j", jobs.CANCELLED),
    ],
    ids=["another result", "a downgraded result", "a failure", "a cancellation"],
)
@pytest.mark.parametrize("first", [result_of("j"), failure_of("j")], ids=["result", "failure"])
def test_the_first_outcome_stays(
    execute: Execute, schema: Schema, first: jobs.Outcome, late: jobs.Outcome
) -> None:
    # Given a job with an outcome
    execute(submissions.accept(schema, job("j")))
    execute(begin(schema, "j"))
    execute(outcomes.finish(schema, first))
    before = execute(statuses.fetch(schema, "j")), execute(counted(schema))
    # When a second outcome arrives late
    recorded = execute(outcomes.finish(schema, late))
    # Then it is refused: neither outcome, state nor counts change
    assert not recorded
    assert execute(outcomes.fetch(schema, ["j"])) == {"j": first}
    assert (execute(statuses.fetch(schema, "j")), execute(counted(schema))) == before


def test_of_many_that_end_a_job_at_once_one_wins(store: JobStore, schema: Schema) -> None:
    store.execute(submissions.accept(schema, job("j")))
    results = [result_of("j", score=float(number)) for number in range(8)]

    with ThreadPoolExecutor(8) as threads:
        won = list(
            threads.map(lambda outcome: store.execute(outcomes.finish(schema, outcome)), results)
        )

    assert won.count(True) == 1
    assert store.execute(outcomes.fetch(schema, ["j"])) == {"j": results[won.index(True)]}
    assert store.execute(overview.status(schema, [])).jobs[JobState.DONE] == 1


@pytest.mark.parametrize("end", [result_of, failure_of], ids=["result", "failure"])
def test_the_payload_is_removed_at_the_end(
    execute: Execute, schema: Schema, client: redis.Redis, end: Callable[[str], jobs.Outcome]
) -> None:
    made = job()
    execute(submissions.accept(schema, made))
    execute(begin(schema, made.id))
    assert client.exists(schema.keys.payload(made.id))

    execute(outcomes.finish(schema, end(made.id)))

    assert not client.exists(schema.keys.payload(made.id))
    assert live_jobs(client, schema) == (set(), set())


def test_the_end_of_a_job_is_told_once_to_those_who_listen(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    listener: Any = client.pubsub()  # type: ignore[no-untyped-call]
    with listener:
        # Given a listener
        listener.subscribe(schema.keys.done)
        assert listener.get_message(timeout=10)["type"] == "subscribe"
        for name in ("a", "b"):
            execute(submissions.accept(schema, job(name)))
        # When a job ends, is ended again, and then another ends
        for outcome in (result_of("a"), failure_of("a"), result_of("b")):
            execute(outcomes.finish(schema, outcome))
        # Then each end is published once
        told = [listener.get_message(timeout=10)["data"] for _ in range(2)]
    assert told == [b"a", b"b"]


def test_outcomes_are_those_of_ended_jobs_and_errors_for_unknown_ones(
    execute: Execute, schema: Schema
) -> None:
    # Given a job in each state
    for name in ("queued", "running", "done", "failed"):
        execute(submissions.accept(schema, job(name)))
    execute(begin(schema, "running"))
    execute(outcomes.finish(schema, result_of("done")))
    execute(outcomes.finish(schema, failure_of("failed")))
    # When the outcomes of all are fetched, and of one that never existed
    found = execute(outcomes.fetch(schema, ["queued", "done", "unknown", "running", "failed"]))
    # Then the live ones are left out
    assert set(found) == {"done", "failed", "unknown"}
    assert found["done"] == result_of("done")
    assert found["failed"] == failure_of("failed")
    assert isinstance(found["unknown"], JobNotFound)


def test_no_ids_have_no_outcomes(execute: Execute, schema: Schema) -> None:
    assert execute(outcomes.fetch(schema, [])) == {}


def test_an_outcome_of_a_newer_worker_is_read_for_what_is_known_of_it(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    execute(submissions.accept(schema, job("j")))
    told = json.loads(result_of("j").model_dump_json())
    told["provenance"]["news"] = told["news"] = "of a later version"
    client.set(schema.keys.outcome("j"), zlib.compress(json.dumps(told).encode()), ex=60)

    assert execute(outcomes.fetch(schema, ["j"])) == {"j": result_of("j")}


@functools.cache
def too_large_when_unpacked() -> bytes:
    """Return a result and 400 MiB of spaces; not when imported, because this takes a second."""
    return zlib.compress(result_of("j").model_dump_json().encode() + b" " * (400 * 2**20), 1)


@pytest.mark.parametrize(
    "stored",
    [
        lambda: b"garbage",
        lambda: zlib.compress(b"{}"),
        lambda: zlib.compress(result_of("j").model_dump_json().encode())[:-9],
        too_large_when_unpacked,
    ],
    ids=["garbage", "wrong schema", "truncated", "far too large when unpacked"],
)
def test_an_outcome_that_cannot_be_read_is_an_error_and_spares_the_others(
    execute: Execute, schema: Schema, client: redis.Redis, stored: Callable[[], bytes]
) -> None:
    for name in ("j", "good"):
        execute(submissions.accept(schema, job(name)))
        execute(outcomes.finish(schema, result_of(name)))
    client.set(schema.keys.outcome("j"), stored(), ex=60)

    found = execute(outcomes.fetch(schema, ["j", "good"]))

    assert isinstance(found["j"], PayloadInvalid)
    assert found["good"] == result_of("good")


@pytest.mark.parametrize("spoilt", ["outcome", "job"])
def test_a_key_that_holds_something_else_spares_the_other_outcomes(
    execute: Execute, schema: Schema, client: redis.Redis, spoilt: str
) -> None:
    for name in ("j", "good"):
        execute(submissions.accept(schema, job(name)))
        execute(outcomes.finish(schema, result_of(name)))
    keys = [schema.keys.outcome("j"), schema.keys.job("j")]
    client.delete(*keys)
    client.lpush(keys[spoilt == "job"], "something else")
    client.expire(keys[spoilt == "job"], 60)

    found = execute(outcomes.fetch(schema, ["j", "good"]))

    kind = PayloadInvalid if spoilt == "outcome" else JobNotFound
    assert isinstance(found["j"], kind)
    assert found["good"] == result_of("good")
