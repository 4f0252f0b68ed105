"""An attempt whose process died is followed by another; one that renews its lease is not."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from contract.jobs import JobState
from contract.store import encoding, outcomes
from contract.store.attempts import Started, Verdict
from tests.integration.redis_state import PATIENCE_S
from tests.integration.sample_records import failure_of, result_of
from tests.integration.store.attempts_at_a_job import LONG_S, ME, OTHER, SHORT_S, THIRD, Attempts
from tests.processes import wait_until


def test_an_attempt_without_a_lease_is_silent_at_first_and_keeps_its_job(tried: Attempts) -> None:
    # Given an attempt that has not renewed its lease
    tried.start(ME)
    tried.expire(ME)
    # When another worker asks during the grace period
    silent = [tried.start(OTHER), tried.start(OTHER), tried.start(THIRD)]
    # Then it is asked to retry later, and nothing is counted yet
    assert [each.verdict for each in silent] == [Verdict.SILENT] * 3
    assert [each.payload for each in silent] == [None] * 3
    assert tried.state() == (JobState.RUNNING, 1)
    assert not tried.leased()


def test_silent_for_longer_than_the_grace_an_attempt_counts_as_dead(tried: Attempts) -> None:
    # Given an attempt whose lease has expired
    tried.start(ME)
    tried.expire(ME)
    assert tried.start(OTHER, lease_s=SHORT_S).verdict == Verdict.SILENT
    # When another worker has asked for a third of the lease
    replies: list[Started] = []

    def begun() -> bool:
        replies.append(tried.start(OTHER, lease_s=SHORT_S))
        return replies[-1].verdict != Verdict.SILENT

    wait_until(begun, "the grace is over", PATIENCE_S)
    # Then it gets the job, and the death is counted
    started = replies[-1]
    assert (started.verdict, started.attempts, started.deaths) == (Verdict.STARTED, 2, 1)
    assert encoding.decode_job(tried.schema.settings, "j", started.payload).job() == tried.made
    # And the first one no longer counts, even if it is still alive
    assert not tried.renew(ME)
    assert not tried.store.execute(outcomes.finish(tried.schema, result_of("j"), ME))
    assert not tried.release(ME)
    assert tried.store.execute(outcomes.finish(tried.schema, result_of("j", score=2.0), OTHER))


def test_an_attempt_before_a_failover_does_not_count_as_dead(
    tried: Attempts, client: redis.Redis
) -> None:
    """Expect no smaller model, because the failover may only have lost the attempt's outcome."""
    # Given an attempt without a lease, and another primary since its start
    tried.start(ME)
    tried.expire(ME)
    tried.start(OTHER)
    client.hset(tried.schema.keys.job("j"), "primary", "01234567")
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)
    # When another worker gets the job
    started = tried.start(OTHER)
    # Then the attempt is counted, and no death
    assert (started.verdict, started.attempts, started.deaths) == (Verdict.STARTED, 2, 0)
    # And the next one counts as dead, because the primary is the same
    tried.expire(OTHER)
    tried.start(THIRD)
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)
    assert tried.start(THIRD).deaths == 1


def test_the_grace_begins_with_the_first_question_whoever_asks(
    tried: Attempts, client: redis.Redis
) -> None:
    # Given that a worker asked a minute ago, and none since
    tried.start(ME)
    tried.expire(ME)
    tried.start(OTHER)
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)
    # When a third one asks, then it does not have to wait: a third of the lease is over
    assert tried.start(THIRD).verdict == Verdict.STARTED
    assert "silent_since" not in tried.fields()


def test_who_renews_within_the_grace_has_not_died(tried: Attempts, client: redis.Redis) -> None:
    """Renew the lease late, as after a pause of Redis."""
    # Given an attempt whose lease has expired, and another worker that asked long ago
    tried.start(ME)
    tried.expire(ME)
    tried.start(OTHER)
    client.hincrbyfloat(tried.schema.keys.job("j"), "silent_since", -60)
    # When the first one renews its lease
    assert tried.renew(ME)
    # Then it has its lease again, and the others are held ...
    assert tried.leased()
    assert tried.start(OTHER).verdict == Verdict.HELD
    # ... and if it stops again, the grace period starts again
    tried.expire(ME)
    assert tried.start(OTHER).verdict == Verdict.SILENT
    assert tried.state() == (JobState.RUNNING, 1)


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
