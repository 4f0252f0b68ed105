"""At most one attempt at a job is under way, and one whose process died is followed by another."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from contract.jobs import JobState
from contract.settings import Settings
from contract.store import attempts, outcomes, payloads, statuses, submissions
from contract.store.attempts import Started, Verdict
from contract.store.blocking import JobStore
from contract.store.schema import Schema
from tests.integration.redis_state import PATIENCE_S, keys_of
from tests.integration.sample_records import failure_of, job, result_of
from tests.processes import wait_until

#: A lease that is there for as long as a test takes, and one that is soon gone.
LONG_S, SHORT_S = 60.0, 0.3

ME, OTHER, THIRD = "worker@a:11:me", "worker@b:12:other", "worker@c:13:third"


class Attempts:
    """What workers do to one job."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.schema = store, store.schema
        self.made = job("j", requests=2)
        store.execute(submissions.accept(self.schema, self.made))

    def start(self, token: str, *, lease_s: float = LONG_S, max_attempts: int = 4) -> Started:
        return self.store.execute(
            attempts.start(self.schema, "j", token, max_attempts=max_attempts, lease_s=lease_s)
        )

    def renew(self, token: str, lease_s: float = LONG_S) -> bool:
        return self.store.execute(attempts.renew(self.schema, "j", token, lease_s))

    def release(self, token: str, *, downgrade: str = "", died: bool = False) -> bool:
        return self.store.execute(
            attempts.release(self.schema, "j", token, downgrade=downgrade, died=died)
        )

    def expire(self, token: str, lease_s: float = LONG_S) -> None:
        """Have the lease of `token` go, as if its process had been killed."""
        assert self.renew(token, SHORT_S)
        wait_until(lambda: not self.leased(), "the lease expires", PATIENCE_S)

    def leased(self) -> bool:
        return bool(self.store.client.exists(self.schema.keys.lease("j")))

    def state(self) -> tuple[JobState, int]:
        status = self.store.execute(statuses.fetch(self.schema, "j"))
        return status.state, status.attempts

    def fields(self) -> set[str]:
        found: Any = self.store.client.hkeys(self.schema.keys.job("j"))
        return {name.decode() for name in found}

    def live_jobs(self) -> tuple[bool, bool]:
        """Whether the job counts as queued, and as running."""
        keys = self.schema.keys
        scores = [self.store.client.zscore(key, "j") for key in (keys.queued, keys.running)]
        return scores[0] is not None, scores[1] is not None


@pytest.fixture
def tried(store: JobStore) -> Attempts:
    return Attempts(store)


# Beginning


def test_an_attempt_is_counted_leased_and_given_its_payload(tried: Attempts) -> None:
    started = tried.start(ME)

    assert started.verdict == Verdict.STARTED
    assert (started.attempts, started.deaths, started.downgrade) == (1, 0, None)
    assert payloads.decode(tried.schema.settings, "j", started.payload) == tried.made
    assert tried.leased()
    assert tried.state() == (JobState.RUNNING, 1)
    assert tried.live_jobs() == (False, True)


def test_asking_twice_with_one_token_is_asking_once(tried: Attempts) -> None:
    """A reply may be lost on its way; then the worker asks again."""
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
    # Then they are told so, get no payload, and the attempt still counts
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


# Silence


def test_an_attempt_without_a_lease_is_silent_at_first_and_keeps_its_job(tried: Attempts) -> None:
    # Given an attempt that has not renewed its lease
    tried.start(ME)
    tried.expire(ME)
    # When another asks, within the grace
    silent = [tried.start(OTHER), tried.start(OTHER), tried.start(THIRD)]
    # Then it is asked to come again, and nothing is counted yet
    assert [each.verdict for each in silent] == [Verdict.SILENT] * 3
    assert [each.payload for each in silent] == [None] * 3
    assert tried.state() == (JobState.RUNNING, 1)
    assert not tried.leased()


def test_silent_for_longer_than_the_grace_an_attempt_counts_as_dead(tried: Attempts) -> None:
    # Given an attempt whose lease has gone
    tried.start(ME)
    tried.expire(ME)
    assert tried.start(OTHER, lease_s=SHORT_S).verdict == Verdict.SILENT
    # When another has asked for a third of its lease
    replies: list[Started] = []

    def begun() -> bool:
        replies.append(tried.start(OTHER, lease_s=SHORT_S))
        return replies[-1].verdict != Verdict.SILENT

    wait_until(begun, "the grace is over", PATIENCE_S)
    # Then it has the job, and the death is counted
    started = replies[-1]
    assert (started.verdict, started.attempts, started.deaths) == (Verdict.STARTED, 2, 1)
    assert payloads.decode(tried.schema.settings, "j", started.payload) == tried.made
    # And the first one counts no more, should it still be alive
    assert not tried.renew(ME)
    assert not tried.store.execute(outcomes.finish(tried.schema, result_of("j"), ME))
    assert not tried.release(ME)
    assert tried.store.execute(outcomes.finish(tried.schema, result_of("j", score=2.0), OTHER))


def test_the_grace_begins_with_the_first_question_whoever_asks(
    tried: Attempts, client: redis.Redis
) -> None:
    # Given that somebody asked a minute ago, and nobody since
    tried.start(ME)
    tried.expire(ME)
    tried.start(OTHER)
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)
    # When a third asks, then it need not wait: a third of the lease is over
    assert tried.start(THIRD).verdict == Verdict.STARTED
    assert "silent_since" not in tried.fields()


def test_who_renews_within_the_grace_has_not_died(tried: Attempts, client: redis.Redis) -> None:
    """Redis may have stood still for as long as a lease."""
    # Given an attempt whose lease has gone, and another that asked long ago
    tried.start(ME)
    tried.expire(ME)
    tried.start(OTHER)
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)
    # When the first one is heard of again
    assert tried.renew(ME)
    # Then it has its lease again, the others are held ...
    assert tried.leased()
    assert tried.start(OTHER).verdict == Verdict.HELD
    # ... and should it fall silent once more, the grace begins anew
    tried.expire(ME)
    assert tried.start(OTHER).verdict == Verdict.SILENT
    assert tried.state() == (JobState.RUNNING, 1)


# Renewing


def test_a_renewal_prolongs_the_lease(tried: Attempts, client: redis.Redis) -> None:
    tried.start(ME, lease_s=10)
    left: Any = client.pttl(tried.schema.keys.lease("j"))
    assert 0 < left <= 10_000

    assert tried.renew(ME, LONG_S)

    left = client.pttl(tried.schema.keys.lease("j"))
    assert 10_000 < left <= 1_000 * LONG_S


@pytest.mark.parametrize("outcome", [result_of("j"), failure_of("j"), failure_of("j", "cancelled")])
def test_once_the_job_has_ended_a_renewal_says_so_and_takes_no_lease(
    tried: Attempts, outcome: Any
) -> None:
    tried.start(ME)
    tried.store.execute(outcomes.finish(tried.schema, outcome))

    assert not tried.renew(ME)
    assert not tried.leased()


def test_once_another_attempt_has_begun_a_renewal_says_so_and_leaves_it_its_lease(
    tried: Attempts, client: redis.Redis
) -> None:
    tried.start(ME)
    tried.release(ME)
    tried.start(OTHER)

    assert not tried.renew(ME)
    assert client.get(tried.schema.keys.lease("j")) == OTHER.encode()
    assert tried.renew(OTHER)


def test_what_was_never_begun_cannot_be_renewed(tried: Attempts) -> None:
    assert not tried.renew(ME)
    assert not tried.leased()


# Giving up


@pytest.mark.parametrize("token", [ME, "worker@a:11:"], ids=["whole token", "its owner"])
def test_a_released_job_is_queued_and_the_next_attempt_begins_at_once(
    tried: Attempts, token: str
) -> None:
    # Given an attempt
    tried.start(ME)
    # When it, or its process's parent, gives it up
    assert tried.release(token)
    # Then the job waits for the next one
    assert tried.state() == (JobState.QUEUED, 1)
    assert tried.live_jobs() == (True, False)
    assert not tried.leased()
    started = tried.start(OTHER)
    assert (started.verdict, started.attempts) == (Verdict.STARTED, 2)
    assert (started.deaths, started.downgrade) == (0, None)


@pytest.mark.parametrize("token", [OTHER, "worker@a:1:", "worker@a:111:", "a:11:me", ME + "!"])
def test_an_attempt_of_another_process_is_not_released(tried: Attempts, token: str) -> None:
    tried.start(ME)

    assert not tried.release(token, downgrade="out_of_memory", died=True)

    assert tried.state() == (JobState.RUNNING, 1)
    assert tried.renew(ME)
    tried.release(ME)
    started = tried.start(OTHER)
    assert (started.deaths, started.downgrade) == (0, None)


def test_what_has_been_released_or_ended_is_not_released_again(tried: Attempts) -> None:
    tried.start(ME)
    assert tried.release(ME, died=True)
    assert not tried.release(ME, died=True)
    assert tried.start(OTHER).deaths == 1

    tried.store.execute(outcomes.finish(tried.schema, result_of("j"), OTHER))
    assert not tried.release(OTHER, died=True)
    assert tried.state() == (JobState.DONE, 2)
    assert tried.live_jobs() == (False, False)


def test_the_next_attempt_is_told_of_deaths_and_why_to_downgrade(tried: Attempts) -> None:
    tried.start(ME)
    tried.release("worker@a:11:", died=True)
    second = tried.start(OTHER)
    assert (second.deaths, second.downgrade) == (1, None)
    tried.release(OTHER, downgrade="out_of_memory")

    third = tried.start(THIRD)
    assert (third.attempts, third.deaths, third.downgrade) == (3, 1, "out_of_memory")
    # It stays so, whatever becomes of the attempts after.
    tried.release(THIRD, died=True)
    fourth = tried.start(ME)
    assert (fourth.attempts, fourth.deaths, fourth.downgrade) == (4, 2, "out_of_memory")


def test_a_release_takes_the_lease_also_if_it_has_gone(tried: Attempts) -> None:
    tried.start(ME)
    tried.expire(ME)

    assert tried.release("worker@a:11:", died=True)

    started = tried.start(OTHER)
    assert (started.verdict, started.attempts, started.deaths) == (Verdict.STARTED, 2, 1)


# Ending


def test_an_outcome_of_an_attempt_that_counts_no_more_is_refused(tried: Attempts) -> None:
    # Given a second attempt, and a first one that comes late
    tried.start(ME)
    tried.release(ME)
    tried.start(OTHER)
    # When the first one has an outcome, then it is refused, and the second goes on
    assert not tried.store.execute(outcomes.finish(tried.schema, failure_of("j"), ME))
    assert tried.state() == (JobState.RUNNING, 2)
    assert tried.store.execute(outcomes.fetch(tried.schema, ["j"])) == {}
    assert tried.renew(OTHER)
    # And the second one's stands
    assert tried.store.execute(outcomes.finish(tried.schema, result_of("j"), OTHER))
    assert tried.state() == (JobState.DONE, 2)


def test_without_a_token_a_job_is_ended_whoever_is_at_it(tried: Attempts) -> None:
    """So does a caller that cancels it."""
    tried.start(ME)

    assert tried.store.execute(outcomes.finish(tried.schema, failure_of("j", "cancelled")))

    assert tried.state() == (JobState.CANCELLED, 1)
    assert not tried.leased()
    assert not tried.renew(ME)


def test_the_parent_of_a_process_may_end_its_attempt(tried: Attempts) -> None:
    tried.start(ME)

    assert not tried.store.execute(
        outcomes.finish(tried.schema, failure_of("j", "time_limit"), "worker@a:1:")
    )
    assert tried.store.execute(
        outcomes.finish(tried.schema, failure_of("j", "time_limit"), "worker@a:11:")
    )


def test_an_attempt_that_was_given_up_may_still_end_the_job_if_no_other_is_at_it(
    tried: Attempts,
) -> None:
    tried.start(ME)
    tried.release("worker@a:11:", died=True)

    assert tried.store.execute(outcomes.finish(tried.schema, result_of("j"), ME))
    assert tried.state() == (JobState.DONE, 1)
    assert tried.live_jobs() == (False, False)


# Too often


def test_when_there_were_as_many_attempts_as_allowed_no_other_begins_or_is_counted(
    tried: Attempts,
) -> None:
    # Given a job that two attempts ended with their processes
    for token in (ME, OTHER):
        assert tried.start(token, max_attempts=2).verdict == Verdict.STARTED
        tried.release(token, died=True)
    # When a third is to begin, however often
    refused = [tried.start(THIRD, max_attempts=2) for _ in range(3)]
    # Then it does not, and the numbers are those of what has been
    for each in refused:
        assert (each.verdict, each.attempts, each.deaths) == (Verdict.EXHAUSTED, 2, 2)
        assert each.payload is None
    assert tried.state() == (JobState.QUEUED, 2)
    assert not tried.leased()
    # And it may put the end of the job on record
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


# Keys


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
