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
from contract.store import attempts, dead_letters, overview
from contract.store.connection import AsyncJobStore, JobStore
from contract.store.records import Exchange, Records, compress
from tests.integration.redis_state import keys_of, messages, payload
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import LEASE_S, begin

T = TypeVar("T")


class Do(Protocol):
    """Makes an exchange with the server."""

    def __call__(self, exchange: Exchange[T], /) -> T: ...


@pytest.fixture(params=["blocking", "asyncio"])
def do(request: pytest.FixtureRequest, store: JobStore, settings: Settings) -> Do:
    """Both stores in turn: every behaviour of this file is that of both."""
    if request.param == "blocking":
        return store.do

    def run(exchange: Exchange[T], /) -> T:
        async def once() -> T:
            url = settings.redis_url.get_secret_value()
            with ThreadPoolExecutor(1) as threads:
                async with redis.asyncio.Redis.from_url(url) as client:
                    return await AsyncJobStore(client, store.records, threads).do(exchange)

        return asyncio.run(once())

    return run


@pytest.fixture
def records(settings: Settings) -> Records:
    return Records(settings)


def lives(client: redis.Redis, records: Records) -> tuple[set[str], set[str]]:
    """Ids of the jobs that count as queued, and as running."""
    found: list[set[str]] = []
    for key in (records.keys.queued, records.keys.running):
        members: Any = client.zrange(key, 0, -1)
        found.append({member.decode() for member in members})
    return found[0], found[1]


def counted(records: Records) -> Exchange[tuple[dict[JobState, int], metrics.Totals]]:
    """What is counted of all jobs."""
    status = overview.status(records, [])

    def read(replies: list[Any]) -> tuple[dict[JobState, int], metrics.Totals]:
        found = status.read(replies)
        return found.jobs, found.counters

    return Exchange(status.send, read)


def test_an_accepted_job_can_be_loaded_as_it_was(do: Do, records: Records) -> None:
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
    do(records.accept(full))
    # Then a worker finds it unchanged
    assert do(payload(records, full.id)) == full


def test_an_accepted_job_is_queued_and_its_message_not_yet_sent(do: Do, records: Records) -> None:
    made = job(requests=2, documents=3)

    accepted = do(records.accept(made))

    status = do(records.status(made.id))
    assert not accepted.sent
    assert (status.state, status.pairs, status.requests) == (JobState.QUEUED, 6, 2)
    assert (status.attempts, status.started_at, status.ended_at) == (0, None, None)
    assert status.code is None


def test_accepting_puts_no_message_on_the_queue(
    do: Do, records: Records, client: redis.Redis, settings: Settings
) -> None:
    do(records.accept(job()))

    assert messages(client, settings) == []


def test_accepting_the_same_job_again_changes_nothing(
    do: Do, records: Records, client: redis.Redis
) -> None:
    # Given a job that a worker has begun
    made = job()
    do(records.accept(made))
    do(begin(records, made.id))
    before = do(records.status(made.id))
    # When it is offered again
    do(records.accept(made))
    # Then it is where it was
    assert do(records.status(made.id)) == before
    assert lives(client, records) == (set(), {made.id})
    assert do(payload(records, made.id)) == made


def test_accepting_again_says_whether_the_message_was_sent(do: Do, records: Records) -> None:
    made = job()
    do(records.accept(made))
    assert not do(records.accept(made)).sent

    do(records.mark_sent(made.id))

    assert do(records.accept(made)).sent


def test_an_id_cannot_stand_for_other_contents(do: Do, records: Records) -> None:
    # Given a job on record
    first = job("taken", query="one thing")
    do(records.accept(first))
    # When another is offered under its id
    with pytest.raises(JobConflict, match="taken") as conflict:
        do(records.accept(job("taken", query="another thing")))
    # Then the caller is at fault, and the first one stands
    assert isinstance(conflict.value, InvalidInput)
    assert do(payload(records, "taken")) == first


def test_an_id_of_an_ended_job_cannot_stand_for_other_contents(do: Do, records: Records) -> None:
    do(records.accept(job("taken", query="one thing")))
    do(records.finish(result_of("taken")))

    with pytest.raises(JobConflict):
        do(records.accept(job("taken", query="another thing")))


@pytest.mark.parametrize("ending", ["payload", "outcome"])
def test_an_id_that_ends_like_a_key_of_ours_is_a_job_of_its_own(
    do: Do, records: Records, ending: str
) -> None:
    # Given two ids, one the other's beginning
    short, long = job("a"), job(f"a:{ending}")
    # When both are accepted, and one of them ends
    do(records.accept(short))
    do(records.accept(long))
    do(records.finish(result_of(short.id)))
    # Then the other is untouched
    assert do(records.status(long.id)).state == JobState.QUEUED
    assert do(payload(records, long.id)) == long


def test_an_expired_payload_is_put_back_by_its_own_job_only(
    do: Do, records: Records, client: redis.Redis
) -> None:
    # Given a job that waits, and whose payload has expired
    mine = job("mine")
    do(records.accept(mine))
    client.delete(records.keys.payload("mine"))

    # When another job comes under its id, then it is refused and leaves no payload
    other = mine.model_copy(update={"model": "bundled"})
    with pytest.raises(JobConflict):
        do(records.accept(other))
    with pytest.raises(PayloadMissing):
        do(payload(records, "mine"))

    # When the job itself is submitted again, then its payload is back
    do(records.accept(mine))
    assert do(payload(records, "mine")) == mine


def test_a_job_of_too_many_bytes_is_refused_before_anything_is_written(
    do: Do, settings: Settings, client: redis.Redis
) -> None:
    made = job(query="q" * 2_000)
    size = len(made.model_dump_json().encode())
    short: Records = Records(settings.model_copy(update={"max_bytes_per_job": size - 1}))

    with pytest.raises(LimitExceeded, match="RERANKQ_MAX_BYTES_PER_JOB"):
        do(short.accept(made))

    assert keys_of(client, settings) == []


def test_a_job_of_just_as_many_bytes_as_allowed_comes_through(do: Do, settings: Settings) -> None:
    made = job(query="q" * 2_000)
    size = len(made.model_dump_json().encode())
    exact = Records(settings.model_copy(update={"max_bytes_per_job": size}))

    do(exact.accept(made))

    assert do(payload(exact, made.id)) == made


def test_marking_an_unknown_job_as_sent_makes_no_record(
    do: Do, records: Records, client: redis.Redis, settings: Settings
) -> None:
    do(records.mark_sent("unknown"))

    assert keys_of(client, settings) == []


def test_each_start_is_an_attempt(do: Do, records: Records) -> None:
    made = job()
    do(records.accept(made))

    counted = []
    for token in ("one", "two", "three"):
        counted.append(do(begin(records, made.id, token)).attempts)
        do(attempts.release(records, made.id, token))
    counted.append(do(begin(records, made.id)).attempts)

    status = do(records.status(made.id))
    assert counted == [1, 2, 3, 4]
    assert (status.state, status.attempts) == (JobState.RUNNING, 4)


def test_a_started_job_is_running_and_no_longer_queued(
    do: Do, records: Records, client: redis.Redis
) -> None:
    made = job()
    do(records.accept(made))
    assert lives(client, records) == ({made.id}, set())

    do(begin(records, made.id))

    assert lives(client, records) == (set(), {made.id})


@pytest.mark.parametrize("end", [result_of, failure_of], ids=["result", "failure"])
def test_an_ended_job_is_not_started_again(
    do: Do, records: Records, end: Callable[[str], jobs.Outcome]
) -> None:
    # Given a job that ended in its second attempt
    made = job()
    do(records.accept(made))
    do(begin(records, made.id, "first"))
    do(attempts.release(records, made.id, "first"))
    assert do(begin(records, made.id)).attempts == 2
    do(records.finish(end(made.id)))
    before = do(records.status(made.id))
    # When its message is delivered once more
    late = do(begin(records, made.id))
    # Then there is nothing to do, and no attempt is counted
    assert (late.verdict, late.attempts) == (attempts.Verdict.ENDED, 0)
    assert do(records.status(made.id)) == before


LATE = ("forgotten", "expired", "dropped", "cancelled", "never-accepted")


@pytest.mark.parametrize("late", LATE)
def test_a_late_message_adds_no_end_to_a_job_whose_record_has_gone(
    do: Do, records: Records, client: redis.Redis, settings: Settings, late: str
) -> None:
    # Given a job that ended, and whose record expired afterwards
    if late != "never-accepted":
        do(records.accept(job("j")))
        do(begin(records, "j", "token"))
    if late == "forgotten":
        do(records.finish(result_of("j"), "token"))
        do(records.forget("j"))
    if late == "dropped":
        do(records.finish(failure_of("j"), "token", dead_letter=True))
        do(dead_letters.drop(records, "j"))
    if late == "cancelled":
        do(records.finish(failure_of("j", jobs.CANCELLED)))
    client.delete(records.keys.job("j"))
    client.zrem(records.keys.running, "j")
    ends = do(overview.status(records, [])).jobs
    before = keys_of(client, settings)
    # When a copy of its message comes
    started = do(begin(records, "j"))
    recorded = do(records.finish(failure_of("j", "payload_missing"), "token"))
    do(records.mark_sent("j"))
    # Then nothing is recorded
    assert (started.verdict, recorded) == (attempts.Verdict.UNKNOWN, False)
    assert do(overview.status(records, [])).jobs == ends
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
    do: Do, records: Records, outcome: jobs.Outcome, state: JobState, code: str | None
) -> None:
    do(records.accept(job("j")))
    do(begin(records, "j"))

    recorded = do(records.finish(outcome))

    status = do(records.status("j"))
    assert recorded
    assert do(records.outcomes(["j"])) == {"j": outcome}
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
    do: Do, records: Records, first: jobs.Outcome, late: jobs.Outcome
) -> None:
    # Given a job with an outcome
    do(records.accept(job("j")))
    do(begin(records, "j"))
    do(records.finish(first))
    before = do(records.status("j")), do(counted(records))
    # When another comes late
    recorded = do(records.finish(late))
    # Then it is refused: neither outcome, state nor counts change
    assert not recorded
    assert do(records.outcomes(["j"])) == {"j": first}
    assert (do(records.status("j")), do(counted(records))) == before


def test_of_many_that_end_a_job_at_once_one_wins(store: JobStore, records: Records) -> None:
    store.do(records.accept(job("j")))
    outcomes = [result_of("j", score=float(number)) for number in range(8)]

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda outcome: store.do(records.finish(outcome)), outcomes))

    assert won.count(True) == 1
    assert store.do(records.outcomes(["j"])) == {"j": outcomes[won.index(True)]}
    assert store.do(overview.status(records, [])).jobs[JobState.DONE] == 1


def test_an_outcome_outlives_forgetting_only_as_a_state(do: Do, records: Records) -> None:
    """A late outcome is refused even after the caller took the first one away."""
    do(records.accept(job("j")))
    do(records.finish(result_of("j")))
    do(records.forget("j"))

    assert not do(records.finish(result_of("j", downgraded=True)))
    assert do(begin(records, "j")).attempts == 0
    assert isinstance(do(records.outcomes(["j"]))["j"], JobNotFound)


@pytest.mark.parametrize("end", [result_of, failure_of], ids=["result", "failure"])
def test_the_payload_is_removed_at_the_end(
    do: Do, records: Records, client: redis.Redis, end: Callable[[str], jobs.Outcome]
) -> None:
    made = job()
    do(records.accept(made))
    do(begin(records, made.id))
    assert client.exists(records.keys.payload(made.id))

    do(records.finish(end(made.id)))

    assert not client.exists(records.keys.payload(made.id))
    assert lives(client, records) == (set(), set())


def test_the_end_of_a_job_is_told_once_to_those_who_listen(
    do: Do, records: Records, client: redis.Redis
) -> None:
    listener: Any = client.pubsub()  # type: ignore[no-untyped-call]
    with listener:
        # Given somebody who listens
        listener.subscribe(records.keys.done)
        assert listener.get_message(timeout=10)["type"] == "subscribe"
        for name in ("a", "b"):
            do(records.accept(job(name)))
        # When a job ends, is ended again, and then another ends
        for outcome in (result_of("a"), failure_of("a"), result_of("b")):
            do(records.finish(outcome))
        # Then each is told once
        told = [listener.get_message(timeout=10)["data"] for _ in range(2)]
    assert told == [b"a", b"b"]


def test_every_key_has_a_time_to_live_of_its_kind(
    do: Do, records: Records, client: redis.Redis, settings: Settings
) -> None:
    # Given jobs in all states
    for name in ("queued", "running", "done", "failed", "dead", "forgotten"):
        do(records.accept(job(name)))
        do(records.mark_sent(name))
        if name != "queued":
            do(begin(records, name))
    for outcome in (result_of("done"), failure_of("failed"), result_of("forgotten")):
        do(records.finish(outcome))
    do(records.finish(failure_of("dead"), dead_letter=True))
    do(records.forget("forgotten"))
    # Then each key expires, after the time of its kind
    keys = records.keys
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


def test_a_missing_payload_is_an_error_that_says_why(do: Do, records: Records) -> None:
    with pytest.raises(PayloadMissing, match=r"job gone .*RERANKQ_PAYLOAD_TTL_S"):
        do(payload(records, "gone"))


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
    do: Do, records: Records, client: redis.Redis, stored: bytes
) -> None:
    client.set(records.keys.payload("j"), stored, ex=60)

    with pytest.raises(PayloadInvalid, match="job j ") as invalid:
        do(payload(records, "j"))

    assert "\n" not in str(invalid.value)


def test_a_payload_that_unpacks_to_more_than_the_limit_is_invalid(
    do: Do, records: Records, client: redis.Redis, settings: Settings
) -> None:
    """A small one may unpack to a thousand times its size."""
    client.set(records.keys.payload("j"), zlib.compress(b" " * 1_000_000 + VALID), ex=60)
    strict = Records(settings.model_copy(update={"max_bytes_per_job": 100_000}))

    assert do(payload(records, "j")).id == "j"
    with pytest.raises(PayloadInvalid, match="more than 100,000 bytes"):
        do(payload(strict, "j"))


def test_outcomes_are_those_of_ended_jobs_and_errors_for_unknown_ones(
    do: Do, records: Records
) -> None:
    # Given a job in each state
    for name in ("queued", "running", "done", "failed"):
        do(records.accept(job(name)))
    do(begin(records, "running"))
    do(records.finish(result_of("done")))
    do(records.finish(failure_of("failed")))
    # When all are asked for, and one that never was
    found = do(records.outcomes(["queued", "done", "unknown", "running", "failed"]))
    # Then the live ones are left out
    assert set(found) == {"done", "failed", "unknown"}
    assert found["done"] == result_of("done")
    assert found["failed"] == failure_of("failed")
    assert isinstance(found["unknown"], JobNotFound)


def test_no_ids_have_no_outcomes(do: Do, records: Records) -> None:
    assert do(records.outcomes([])) == {}


def test_an_outcome_of_a_newer_worker_is_read_for_what_is_known_of_it(
    do: Do, records: Records, client: redis.Redis
) -> None:
    do(records.accept(job("j")))
    told = json.loads(result_of("j").model_dump_json())
    told["provenance"]["news"] = told["news"] = "of a later version"
    client.set(records.keys.outcome("j"), zlib.compress(json.dumps(told).encode()), ex=60)

    assert do(records.outcomes(["j"])) == {"j": result_of("j")}


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
    do: Do, records: Records, client: redis.Redis, stored: bytes
) -> None:
    for name in ("j", "good"):
        do(records.accept(job(name)))
        do(records.finish(result_of(name)))
    client.set(records.keys.outcome("j"), stored, ex=60)

    found = do(records.outcomes(["j", "good"]))

    assert isinstance(found["j"], PayloadInvalid)
    assert found["good"] == result_of("good")


@pytest.mark.parametrize("spoilt", ["outcome", "job"])
def test_a_key_that_holds_something_else_spares_the_other_outcomes(
    do: Do, records: Records, client: redis.Redis, spoilt: str
) -> None:
    for name in ("j", "good"):
        do(records.accept(job(name)))
        do(records.finish(result_of(name)))
    keys = [records.keys.outcome("j"), records.keys.job("j")]
    client.delete(*keys)
    client.lpush(keys[spoilt == "job"], "something else")
    client.expire(keys[spoilt == "job"], 60)

    found = do(records.outcomes(["j", "good"]))

    kind = PayloadInvalid if spoilt == "outcome" else JobNotFound
    assert isinstance(found["j"], kind)
    assert found["good"] == result_of("good")


def test_an_unknown_job_has_no_status(do: Do, records: Records) -> None:
    with pytest.raises(JobNotFound, match="never-was"):
        do(records.status("never-was"))


def test_the_queue_counts_jobs_by_state(do: Do, records: Records) -> None:
    for name in ("q1", "q2", "q3", "r1", "r2", "d1", "f1", "c1"):
        do(records.accept(job(name)))
    for name in ("r1", "r2", "d1"):
        do(begin(records, name))
    for outcome in (result_of("d1"), failure_of("f1"), failure_of("c1", jobs.CANCELLED)):
        do(records.finish(outcome))

    status = do(overview.status(records, ["one", "two"]))

    assert status.workers == ("one", "two")
    assert status.jobs == {
        JobState.QUEUED: 3,
        JobState.RUNNING: 2,
        JobState.DONE: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 1,
    }


def test_the_queue_of_an_unused_service_is_empty(do: Do, records: Records) -> None:
    status = do(overview.status(records, []))

    assert (status.queue_depth, status.in_flight, status.unacked) == (0, 0, 0)
    assert status.oldest_queued_s is None
    assert status.jobs == dict.fromkeys(JobState, 0)


def test_the_queue_counts_messages_of_all_priorities_and_those_that_workers_hold(
    do: Do, records: Records, client: redis.Redis
) -> None:
    for name in records.keys.queue_lists:
        client.rpush(name, "one", "two")
        client.expire(name, 60)
    client.hset(records.keys.unacked, "tag", "message")

    status = do(overview.status(records, []))

    assert status.queue_depth == 2 * len(names.PRIORITY_STEPS)
    assert status.queue_lengths == dict.fromkeys(names.PRIORITY_STEPS, 2)
    assert (status.unacked, status.in_flight) == (1, 0)


def test_forgetting_a_job_removes_its_outcome_and_keeps_its_state(
    do: Do, records: Records, client: redis.Redis
) -> None:
    do(records.accept(job("j")))
    do(records.finish(result_of("j")))

    do(records.forget("j"))

    assert not client.exists(records.keys.outcome("j"))
    assert do(records.status("j")).state == JobState.DONE


def test_forgetting_a_job_that_has_not_ended_changes_nothing(
    do: Do, records: Records, client: redis.Redis, settings: Settings
) -> None:
    """Its record must live as long as it may queue."""
    do(records.accept(job("j")))

    do(records.forget("j"))

    left: Any = client.ttl(records.keys.job("j"))
    assert left > settings.job_ttl_s - 60
    assert do(payload(records, "j")).id == "j"


def test_forgetting_an_unknown_job_makes_no_record(
    do: Do, records: Records, client: redis.Redis, settings: Settings
) -> None:
    do(records.forget("unknown"))

    assert keys_of(client, settings) == []


def test_two_namespaces_on_one_server_know_nothing_of_each_other(
    do: Do, records: Records, settings: Settings
) -> None:
    other = Records(settings.model_copy(update={"namespace": f"{settings.namespace}-2"}))
    do(records.accept(job("j")))
    do(records.finish(result_of("j")))

    with pytest.raises(JobNotFound):
        do(other.status("j"))
    assert do(overview.status(other, [])).jobs == dict.fromkeys(JobState, 0)


def test_a_command_that_redis_refuses_is_one_error_of_ours(
    do: Do, records: Records, client: redis.Redis
) -> None:
    """Such as a key that another program uses for something else."""
    client.set(records.keys.job("j"), "not a hash", ex=60)

    with pytest.raises(RedisUnavailable, match="refuses the command"):
        do(records.status("j"))
