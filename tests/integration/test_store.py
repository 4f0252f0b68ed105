"""Whatever the order and number of its events, a job has one payload, one outcome, and an end."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import pytest
import redis
import redis.asyncio

from contract import jobs, metrics, names
from contract.errors import (
    InvalidInput,
    JobConflict,
    JobNotFound,
    LimitExceeded,
    PayloadInvalid,
    PayloadMissing,
    RedisUnavailable,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import attempts, dead_letters, outcomes, overview, statuses, submissions
from contract.store.asynchronous import AsyncJobStore
from contract.store.blocking import JobStore
from contract.store.compression import compress
from contract.store.operation import Operation
from contract.store.schema import Schema
from tests.integration.redis_state import keys_of, messages, payload
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import LEASE_S, begin

T = TypeVar("T")


class Do(Protocol):
    """Runs an operation."""

    def __call__(self, operation: Operation[T], /) -> T: ...


@pytest.fixture(params=["blocking", "asyncio"])
def do(request: pytest.FixtureRequest, store: JobStore, settings: Settings) -> Do:
    """Both stores in turn: every behaviour of this file is that of both."""
    if request.param == "blocking":
        return store.execute

    def run(operation: Operation[T], /) -> T:
        async def once() -> T:
            url = settings.redis_url.get_secret_value()
            with ThreadPoolExecutor(1) as threads:
                async with redis.asyncio.Redis.from_url(url) as client:
                    return await AsyncJobStore(client, store.schema, threads).execute(operation)

        return asyncio.run(once())

    return run


@pytest.fixture
def schema(settings: Settings) -> Schema:
    return Schema(settings)


def lives(client: redis.Redis, schema: Schema) -> tuple[set[str], set[str]]:
    """Ids of the jobs that count as queued, and as running."""
    found: list[set[str]] = []
    for key in (schema.keys.queued, schema.keys.running):
        members: Any = client.zrange(key, 0, -1)
        found.append({member.decode() for member in members})
    return found[0], found[1]


def counted(schema: Schema) -> Operation[tuple[dict[JobState, int], metrics.Totals]]:
    """What is counted of all jobs."""
    status = overview.status(schema, [])

    def read(replies: list[Any]) -> tuple[dict[JobState, int], metrics.Totals]:
        found = status.read(replies)
        return found.jobs, found.counters

    return Operation(status.send, read)


def test_an_accepted_job_can_be_loaded_as_it_was(do: Do, schema: Schema) -> None:
    # Given a job with all that a job can hold
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
    do(submissions.accept(schema, full))
    # Then a worker finds it unchanged
    assert do(payload(schema, full.id)) == full


def test_an_accepted_job_is_queued_and_its_message_not_yet_sent(do: Do, schema: Schema) -> None:
    made = job(requests=2, documents=3)

    accepted = do(submissions.accept(schema, made))

    status = do(statuses.fetch(schema, made.id))
    assert not accepted.sent
    assert (status.state, status.pairs, status.requests) == (JobState.QUEUED, 6, 2)
    assert (status.attempts, status.started_at, status.ended_at) == (0, None, None)
    assert status.code is None


def test_accepting_puts_no_message_on_the_queue(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    do(submissions.accept(schema, job()))

    assert messages(client, settings) == []


def test_accepting_the_same_job_again_changes_nothing(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    # Given a job that a worker has begun
    made = job()
    do(submissions.accept(schema, made))
    do(begin(schema, made.id))
    before = do(statuses.fetch(schema, made.id))
    # When it is offered again
    do(submissions.accept(schema, made))
    # Then it is where it was
    assert do(statuses.fetch(schema, made.id)) == before
    assert lives(client, schema) == (set(), {made.id})
    assert do(payload(schema, made.id)) == made


def test_accepting_again_says_whether_the_message_was_sent(do: Do, schema: Schema) -> None:
    made = job()
    do(submissions.accept(schema, made))
    assert not do(submissions.accept(schema, made)).sent

    do(submissions.mark_sent(schema, made.id))

    assert do(submissions.accept(schema, made)).sent


def test_an_id_cannot_stand_for_other_contents(do: Do, schema: Schema) -> None:
    # Given a job on record
    first = job("taken", query="one thing")
    do(submissions.accept(schema, first))
    # When another is offered under its id
    with pytest.raises(JobConflict, match="taken") as conflict:
        do(submissions.accept(schema, job("taken", query="another thing")))
    # Then the caller is at fault, and the first one stands
    assert isinstance(conflict.value, InvalidInput)
    assert do(payload(schema, "taken")) == first


def test_an_id_of_an_ended_job_cannot_stand_for_other_contents(do: Do, schema: Schema) -> None:
    do(submissions.accept(schema, job("taken", query="one thing")))
    do(outcomes.finish(schema, result_of("taken")))

    with pytest.raises(JobConflict):
        do(submissions.accept(schema, job("taken", query="another thing")))


@pytest.mark.parametrize("ending", ["payload", "outcome"])
def test_an_id_that_ends_like_a_key_of_ours_is_a_job_of_its_own(
    do: Do, schema: Schema, ending: str
) -> None:
    # Given two ids, one the other's beginning
    short, long = job("a"), job(f"a:{ending}")
    # When both are accepted, and one of them ends
    do(submissions.accept(schema, short))
    do(submissions.accept(schema, long))
    do(outcomes.finish(schema, result_of(short.id)))
    # Then the other is untouched
    assert do(statuses.fetch(schema, long.id)).state == JobState.QUEUED
    assert do(payload(schema, long.id)) == long


def test_an_expired_payload_is_put_back_by_its_own_job_only(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    # Given a job that waits, and whose payload has expired
    mine = job("mine")
    do(submissions.accept(schema, mine))
    client.delete(schema.keys.payload("mine"))

    # When another job comes under its id, then it is refused and leaves no payload
    other = mine.model_copy(update={"model": "bundled"})
    with pytest.raises(JobConflict):
        do(submissions.accept(schema, other))
    with pytest.raises(PayloadMissing):
        do(payload(schema, "mine"))

    # When the job itself is submitted again, then its payload is back
    do(submissions.accept(schema, mine))
    assert do(payload(schema, "mine")) == mine


def test_a_job_of_too_many_bytes_is_refused_before_anything_is_written(
    do: Do, settings: Settings, client: redis.Redis
) -> None:
    made = job(query="q" * 2_000)
    size = len(made.model_dump_json().encode())
    short: Schema = Schema(settings.model_copy(update={"max_bytes_per_job": size - 1}))

    with pytest.raises(LimitExceeded, match="RERANKQ_MAX_BYTES_PER_JOB"):
        do(submissions.accept(short, made))

    assert keys_of(client, settings) == []


def test_a_job_of_just_as_many_bytes_as_allowed_comes_through(do: Do, settings: Settings) -> None:
    made = job(query="q" * 2_000)
    size = len(made.model_dump_json().encode())
    exact = Schema(settings.model_copy(update={"max_bytes_per_job": size}))

    do(submissions.accept(exact, made))

    assert do(payload(exact, made.id)) == made


def test_marking_an_unknown_job_as_sent_makes_no_record(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    do(submissions.mark_sent(schema, "unknown"))

    assert keys_of(client, settings) == []


def test_each_start_is_an_attempt(do: Do, schema: Schema) -> None:
    made = job()
    do(submissions.accept(schema, made))

    counted = []
    for token in ("one", "two", "three"):
        counted.append(do(begin(schema, made.id, token)).attempts)
        do(attempts.release(schema, made.id, token))
    counted.append(do(begin(schema, made.id)).attempts)

    status = do(statuses.fetch(schema, made.id))
    assert counted == [1, 2, 3, 4]
    assert (status.state, status.attempts) == (JobState.RUNNING, 4)


def test_a_started_job_is_running_and_no_longer_queued(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    made = job()
    do(submissions.accept(schema, made))
    assert lives(client, schema) == ({made.id}, set())

    do(begin(schema, made.id))

    assert lives(client, schema) == (set(), {made.id})


@pytest.mark.parametrize("end", [result_of, failure_of], ids=["result", "failure"])
def test_an_ended_job_is_not_started_again(
    do: Do, schema: Schema, end: Callable[[str], jobs.Outcome]
) -> None:
    # Given a job that ended in its second attempt
    made = job()
    do(submissions.accept(schema, made))
    do(begin(schema, made.id, "first"))
    do(attempts.release(schema, made.id, "first"))
    assert do(begin(schema, made.id)).attempts == 2
    do(outcomes.finish(schema, end(made.id)))
    before = do(statuses.fetch(schema, made.id))
    # When its message is delivered once more
    late = do(begin(schema, made.id))
    # Then there is nothing to do, and no attempt is counted
    assert (late.verdict, late.attempts) == (attempts.Verdict.ENDED, 0)
    assert do(statuses.fetch(schema, made.id)) == before


LATE = ("forgotten", "expired", "dropped", "cancelled", "never-accepted")


@pytest.mark.parametrize("late", LATE)
def test_a_late_message_adds_no_end_to_a_job_whose_record_has_gone(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings, late: str
) -> None:
    # Given a job that ended, and whose record expired afterwards
    if late != "never-accepted":
        do(submissions.accept(schema, job("j")))
        do(begin(schema, "j", "token"))
    if late == "forgotten":
        do(outcomes.finish(schema, result_of("j"), "token"))
        do(outcomes.forget(schema, "j"))
    if late == "dropped":
        do(outcomes.finish(schema, failure_of("j"), "token", dead_letter=True))
        do(dead_letters.drop(schema, "j"))
    if late == "cancelled":
        do(outcomes.finish(schema, failure_of("j", jobs.CANCELLED)))
    client.delete(schema.keys.job("j"))
    client.zrem(schema.keys.running, "j")
    ends = do(overview.status(schema, [])).jobs
    before = keys_of(client, settings)
    # When a copy of its message comes
    started = do(begin(schema, "j"))
    recorded = do(outcomes.finish(schema, failure_of("j", "payload_missing"), "token"))
    do(submissions.mark_sent(schema, "j"))
    # Then nothing is recorded
    assert (started.verdict, recorded) == (attempts.Verdict.UNKNOWN, False)
    assert do(overview.status(schema, [])).jobs == ends
    assert keys_of(client, settings) == before


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
    do: Do, schema: Schema, outcome: jobs.Outcome, state: JobState, code: str | None
) -> None:
    do(submissions.accept(schema, job("j")))
    do(begin(schema, "j"))

    recorded = do(outcomes.finish(schema, outcome))

    status = do(statuses.fetch(schema, "j"))
    assert recorded
    assert do(outcomes.fetch(schema, ["j"])) == {"j": outcome}
    assert (status.state, status.code) == (state, code)
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.submitted_at <= status.started_at <= status.ended_at


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
    do: Do, schema: Schema, first: jobs.Outcome, late: jobs.Outcome
) -> None:
    # Given a job with an outcome
    do(submissions.accept(schema, job("j")))
    do(begin(schema, "j"))
    do(outcomes.finish(schema, first))
    before = do(statuses.fetch(schema, "j")), do(counted(schema))
    # When another comes late
    recorded = do(outcomes.finish(schema, late))
    # Then it is refused: neither outcome, state nor counts change
    assert not recorded
    assert do(outcomes.fetch(schema, ["j"])) == {"j": first}
    assert (do(statuses.fetch(schema, "j")), do(counted(schema))) == before


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


def test_an_outcome_outlives_forgetting_only_as_a_state(do: Do, schema: Schema) -> None:
    """A late outcome is refused even after the caller took the first one away."""
    do(submissions.accept(schema, job("j")))
    do(outcomes.finish(schema, result_of("j")))
    do(outcomes.forget(schema, "j"))

    assert not do(outcomes.finish(schema, result_of("j", downgraded=True)))
    assert do(begin(schema, "j")).attempts == 0
    assert isinstance(do(outcomes.fetch(schema, ["j"]))["j"], JobNotFound)


@pytest.mark.parametrize("end", [result_of, failure_of], ids=["result", "failure"])
def test_the_payload_is_removed_at_the_end(
    do: Do, schema: Schema, client: redis.Redis, end: Callable[[str], jobs.Outcome]
) -> None:
    made = job()
    do(submissions.accept(schema, made))
    do(begin(schema, made.id))
    assert client.exists(schema.keys.payload(made.id))

    do(outcomes.finish(schema, end(made.id)))

    assert not client.exists(schema.keys.payload(made.id))
    assert lives(client, schema) == (set(), set())


def test_the_end_of_a_job_is_told_once_to_those_who_listen(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    listener: Any = client.pubsub()  # type: ignore[no-untyped-call]
    with listener:
        # Given somebody who listens
        listener.subscribe(schema.keys.done)
        assert listener.get_message(timeout=10)["type"] == "subscribe"
        for name in ("a", "b"):
            do(submissions.accept(schema, job(name)))
        # When a job ends, is ended again, and then another ends
        for outcome in (result_of("a"), failure_of("a"), result_of("b")):
            do(outcomes.finish(schema, outcome))
        # Then each is told once
        told = [listener.get_message(timeout=10)["data"] for _ in range(2)]
    assert told == [b"a", b"b"]


def test_every_key_has_a_time_to_live_of_its_kind(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    # Given jobs in all states
    for name in ("queued", "running", "done", "failed", "dead", "forgotten"):
        do(submissions.accept(schema, job(name)))
        do(submissions.mark_sent(schema, name))
        if name != "queued":
            do(begin(schema, name))
    for outcome in (result_of("done"), failure_of("failed"), result_of("forgotten")):
        do(outcomes.finish(schema, outcome))
    do(outcomes.finish(schema, failure_of("dead"), dead_letter=True))
    do(outcomes.forget(schema, "forgotten"))
    # Then each key expires, after the time of its kind
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


def test_a_missing_payload_is_an_error_that_says_why(do: Do, schema: Schema) -> None:
    with pytest.raises(PayloadMissing, match=r"job gone .*RERANKQ_PAYLOAD_TTL_S"):
        do(payload(schema, "gone"))


VALID = job("j").model_dump_json().encode()


def changed(**fields: Any) -> bytes:
    """A job as JSON with other fields."""
    return json.dumps(json.loads(VALID) | fields).encode()


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"no zlib at all",
        VALID,
        compress(VALID)[:-1],
        compress(VALID)[:10],
        compress(VALID)[:-1] + b"x",
        compress(b""),
        compress(b"\xff\xfe"),
        compress(b"[1, 2"),
        compress(b"null"),
        compress(b"{}"),
        compress(changed(requests=[])),
        compress(changed(surprise=1)),
        compress(changed(id="not an id!")),
        compress(changed(requests=[{"query": " ", "candidates": [{"id": "a", "text": "t"}]}])),
        compress(changed(requests=[{"query": "q", "candidates": [{"id": "a", "text": 5}]}])),
        compress(VALID.replace(b'"score":null', b'"score":NaN', 1)),
        compress(b"[" * 100_000),
    ],
    ids=[
        "nothing",
        "garbage",
        "uncompressed",
        "cut by a byte",
        "cut to ten bytes",
        "wrong checksum",
        "compressed nothing",
        "no UTF-8",
        "half a JSON",
        "null",
        "empty object",
        "no requests",
        "unknown field",
        "bad id",
        "blank query",
        "text of wrong type",
        "NaN",
        "deep nesting",
    ],
)
def test_a_payload_that_is_no_job_is_invalid(
    do: Do, schema: Schema, client: redis.Redis, stored: bytes
) -> None:
    client.set(schema.keys.payload("j"), stored, ex=60)

    with pytest.raises(PayloadInvalid, match="job j ") as invalid:
        do(payload(schema, "j"))

    assert "\n" not in str(invalid.value)


def test_a_payload_that_unpacks_to_more_than_the_limit_is_invalid(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    """A small one may unpack to a thousand times its size."""
    client.set(schema.keys.payload("j"), zlib.compress(b" " * 1_000_000 + VALID), ex=60)
    strict = Schema(settings.model_copy(update={"max_bytes_per_job": 100_000}))

    assert do(payload(schema, "j")).id == "j"
    with pytest.raises(PayloadInvalid, match="more than 100,000 bytes"):
        do(payload(strict, "j"))


def test_outcomes_are_those_of_ended_jobs_and_errors_for_unknown_ones(
    do: Do, schema: Schema
) -> None:
    # Given a job in each state
    for name in ("queued", "running", "done", "failed"):
        do(submissions.accept(schema, job(name)))
    do(begin(schema, "running"))
    do(outcomes.finish(schema, result_of("done")))
    do(outcomes.finish(schema, failure_of("failed")))
    # When all are asked for, and one that never was
    found = do(outcomes.fetch(schema, ["queued", "done", "unknown", "running", "failed"]))
    # Then the live ones are left out
    assert set(found) == {"done", "failed", "unknown"}
    assert found["done"] == result_of("done")
    assert found["failed"] == failure_of("failed")
    assert isinstance(found["unknown"], JobNotFound)


def test_no_ids_have_no_outcomes(do: Do, schema: Schema) -> None:
    assert do(outcomes.fetch(schema, [])) == {}


def test_an_outcome_of_a_newer_worker_is_read_for_what_is_known_of_it(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    do(submissions.accept(schema, job("j")))
    told = json.loads(result_of("j").model_dump_json())
    told["provenance"]["news"] = told["news"] = "of a later version"
    client.set(schema.keys.outcome("j"), zlib.compress(json.dumps(told).encode()), ex=60)

    assert do(outcomes.fetch(schema, ["j"])) == {"j": result_of("j")}


@pytest.mark.parametrize(
    "stored",
    [
        b"garbage",
        zlib.compress(b"{}"),
        zlib.compress(result_of("j").model_dump_json().encode())[:-9],
        zlib.compress(result_of("j").model_dump_json().encode() + b" " * (400 * 2**20), 1),
    ],
    ids=["garbage", "wrong schema", "truncated", "far too large when unpacked"],
)
def test_an_outcome_that_cannot_be_read_is_an_error_and_spares_the_others(
    do: Do, schema: Schema, client: redis.Redis, stored: bytes
) -> None:
    for name in ("j", "good"):
        do(submissions.accept(schema, job(name)))
        do(outcomes.finish(schema, result_of(name)))
    client.set(schema.keys.outcome("j"), stored, ex=60)

    found = do(outcomes.fetch(schema, ["j", "good"]))

    assert isinstance(found["j"], PayloadInvalid)
    assert found["good"] == result_of("good")


@pytest.mark.parametrize("spoilt", ["outcome", "job"])
def test_a_key_that_holds_something_else_spares_the_other_outcomes(
    do: Do, schema: Schema, client: redis.Redis, spoilt: str
) -> None:
    for name in ("j", "good"):
        do(submissions.accept(schema, job(name)))
        do(outcomes.finish(schema, result_of(name)))
    keys = [schema.keys.outcome("j"), schema.keys.job("j")]
    client.delete(*keys)
    client.lpush(keys[spoilt == "job"], "something else")
    client.expire(keys[spoilt == "job"], 60)

    found = do(outcomes.fetch(schema, ["j", "good"]))

    kind = PayloadInvalid if spoilt == "outcome" else JobNotFound
    assert isinstance(found["j"], kind)
    assert found["good"] == result_of("good")


def test_an_unknown_job_has_no_status(do: Do, schema: Schema) -> None:
    with pytest.raises(JobNotFound, match="never-was"):
        do(statuses.fetch(schema, "never-was"))


def test_the_queue_counts_jobs_by_state(do: Do, schema: Schema) -> None:
    for name in ("q1", "q2", "q3", "r1", "r2", "d1", "f1", "c1"):
        do(submissions.accept(schema, job(name)))
    for name in ("r1", "r2", "d1"):
        do(begin(schema, name))
    for outcome in (result_of("d1"), failure_of("f1"), failure_of("c1", jobs.CANCELLED)):
        do(outcomes.finish(schema, outcome))

    status = do(overview.status(schema, ["one", "two"]))

    assert status.workers == ("one", "two")
    assert status.jobs == {
        JobState.QUEUED: 3,
        JobState.RUNNING: 2,
        JobState.DONE: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 1,
    }


def test_the_queue_of_an_unused_service_is_empty(do: Do, schema: Schema) -> None:
    status = do(overview.status(schema, []))

    assert (status.queue_depth, status.in_flight, status.unacked) == (0, 0, 0)
    assert status.oldest_queued_s is None
    assert status.jobs == dict.fromkeys(JobState, 0)


def test_the_queue_counts_messages_of_all_priorities_and_those_that_workers_hold(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    for name in schema.keys.queue_lists:
        client.rpush(name, "one", "two")
        client.expire(name, 60)
    client.hset(schema.keys.unacked, "tag", "message")

    status = do(overview.status(schema, []))

    assert status.queue_depth == 2 * len(names.PRIORITY_STEPS)
    assert status.queue_lengths == dict.fromkeys(names.PRIORITY_STEPS, 2)
    assert (status.unacked, status.in_flight) == (1, 0)


def test_forgetting_a_job_removes_its_outcome_and_keeps_its_state(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    do(submissions.accept(schema, job("j")))
    do(outcomes.finish(schema, result_of("j")))

    do(outcomes.forget(schema, "j"))

    assert not client.exists(schema.keys.outcome("j"))
    assert do(statuses.fetch(schema, "j")).state == JobState.DONE


def test_forgetting_a_job_that_has_not_ended_changes_nothing(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    """Its record must live as long as it may queue."""
    do(submissions.accept(schema, job("j")))

    do(outcomes.forget(schema, "j"))

    left: Any = client.ttl(schema.keys.job("j"))
    assert left > settings.job_ttl_s - 60
    assert do(payload(schema, "j")).id == "j"


def test_forgetting_an_unknown_job_makes_no_record(
    do: Do, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    do(outcomes.forget(schema, "unknown"))

    assert keys_of(client, settings) == []


def test_two_namespaces_on_one_server_know_nothing_of_each_other(
    do: Do, schema: Schema, settings: Settings
) -> None:
    other = Schema(settings.model_copy(update={"namespace": f"{settings.namespace}-2"}))
    do(submissions.accept(schema, job("j")))
    do(outcomes.finish(schema, result_of("j")))

    with pytest.raises(JobNotFound):
        do(statuses.fetch(other, "j"))
    assert do(overview.status(other, [])).jobs == dict.fromkeys(JobState, 0)


def test_a_command_that_redis_refuses_is_one_error_of_ours(
    do: Do, schema: Schema, client: redis.Redis
) -> None:
    """Such as a key that another program uses for something else."""
    client.set(schema.keys.job("j"), "not a hash", ex=60)

    with pytest.raises(RedisUnavailable, match="refuses the command"):
        do(statuses.fetch(schema, "j"))
