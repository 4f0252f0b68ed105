"""At most one attempt at a job is running, and no more attempts begin than are allowed."""

from __future__ import annotations

import redis

from contract.jobs import JobState
from contract.settings import Settings
from contract.store import attempts, encoding, outcomes, statuses, submissions
from contract.store.attempts import Verdict
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.store.attempts_at_a_job import LONG_S, ME, OTHER, THIRD, Attempts


def test_an_attempt_is_counted_leased_and_given_its_payload(tried: Attempts) -> None:
    started = tried.start(ME)

    assert started.verdict == Verdict.STARTED
    assert (started.attempts, started.deaths, started.downgrade) == (1, 0, None)
    assert encoding.decode_job(tried.schema.settings, "j", started.payload).job() == tried.made
    assert tried.leased()
    assert tried.state() == (JobState.RUNNING, 1)
    assert tried.live_jobs() == (False, True)


def test_asking_twice_with_one_token_is_asking_once(tried: Attempts) -> None:
    """Begin twice, as a worker does after its reply was lost."""
    first = tried.start(ME)

    assert tried.start(ME) == first
    assert tried.state() == (JobState.RUNNING, 1)


def test_asking_again_after_the_lease_has_gone_takes_it_again(tried: Attempts) -> None:
    first = tried.start(ME)
    tried.expire(ME)

    assert tried.start(ME) == first
    assert tried.leased()


def test_while_an_attempt_is_under_way_another_is_held_and_changes_nothing(
    tried: Attempts,
) -> None:
    # Given an attempt with a lease
    tried.start(ME)
    before = tried.store.execute(statuses.fetch(tried.schema, "j"))
    # When others come
    held = [tried.start(OTHER), tried.start(THIRD)]
    # Then they get no payload, and the attempt still counts
    assert [each.verdict for each in held] == [Verdict.HELD] * 2
    assert [each.payload for each in held] == [None] * 2
    assert tried.store.execute(statuses.fetch(tried.schema, "j")) == before
    assert "silent_since" not in tried.fields()
    assert tried.renew(ME)


def test_an_ended_job_is_not_begun(tried: Attempts) -> None:
    tried.start(ME)
    tried.store.execute(outcomes.finish(tried.schema, result_of("j"), ME))

    for token in (ME, OTHER):
        late = tried.start(token)
        assert (late.verdict, late.payload) == (Verdict.ENDED, None)
    assert tried.state() == (JobState.DONE, 1)
    assert not tried.leased()


def test_a_job_without_records_is_not_begun_and_leaves_no_trace(
    store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    started = store.execute(
        attempts.start(store.schema, "gone", ME, max_attempts=4, lease_s=LONG_S)
    )

    assert (started.verdict, started.attempts) == (Verdict.UNKNOWN, 0)
    assert keys_of(client, settings) == []


def test_when_there_were_as_many_attempts_as_allowed_no_other_begins_or_is_counted(
    tried: Attempts,
) -> None:
    # Given a job that two attempts ended with their processes
    for token in (ME, OTHER):
        assert tried.start(token, max_attempts=2).verdict == Verdict.STARTED
        tried.release(token, died=True)
    # When a third is about to begin, however often
    refused = [tried.start(THIRD, max_attempts=2) for _ in range(3)]
    # Then it does not, and the number of attempts is unchanged
    for each in refused:
        assert (each.verdict, each.attempts, each.deaths) == (Verdict.EXHAUSTED, 2, 2)
        assert each.payload is None
    assert tried.state() == (JobState.QUEUED, 2)
    assert not tried.leased()
    # And it may store the end of the job
    assert tried.store.execute(
        outcomes.finish(tried.schema, failure_of("j", "attempts_exhausted"), THIRD)
    )


def test_the_last_allowed_attempt_may_ask_twice(tried: Attempts) -> None:
    first = tried.start(ME, max_attempts=1)
    assert tried.start(ME, max_attempts=1) == first
    assert first.verdict == Verdict.STARTED


def test_the_last_allowed_attempt_counts_as_dead_before_the_job_is_given_up(
    tried: Attempts, client: redis.Redis
) -> None:
    tried.start(ME, max_attempts=1)
    tried.expire(ME)
    assert tried.start(OTHER, max_attempts=1).verdict == Verdict.SILENT
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)

    refused = tried.start(OTHER, max_attempts=1)

    assert (refused.verdict, refused.attempts, refused.deaths) == (Verdict.EXHAUSTED, 1, 1)


def test_every_key_has_a_time_to_live_at_every_step(
    store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    schema: Schema = store.schema
    steps = {
        "start": attempts.start(schema, "j", ME, max_attempts=4, lease_s=LONG_S),
        "renew": attempts.renew(schema, "j", ME, LONG_S),
        "release": attempts.release(schema, "j", ME, downgrade="time_limit", died=True),
        "start again": attempts.start(schema, "j", OTHER, max_attempts=4, lease_s=LONG_S),
        "ask in vain": attempts.start(schema, "j", THIRD, max_attempts=4, lease_s=LONG_S),
        "finish": outcomes.finish(schema, failure_of("j"), OTHER, dead_letter=True),
    }
    store.execute(submissions.accept(schema, job("j")))
    for name, step in steps.items():
        store.execute(step)  # type: ignore[arg-type]
        found = keys_of(client, settings)
        assert found
        assert [key for key in found if client.ttl(key) == -1] == [], name
