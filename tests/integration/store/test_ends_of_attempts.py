"""An attempt ends by a release or by an outcome, and only its own process may end it."""

from __future__ import annotations

import pytest

from contract.jobs import JobState
from contract.store import outcomes
from contract.store.attempts import Verdict
from tests.integration.sample_records import failure_of, result_of
from tests.integration.store.attempts_at_a_job import ME, OTHER, THIRD, Attempts


@pytest.mark.parametrize("token", [ME, "worker@a:11:"], ids=["whole token", "its owner"])
def test_a_released_job_is_queued_and_the_next_attempt_begins_at_once(
    tried: Attempts, token: str
) -> None:
    # Given an attempt
    tried.start(ME)
    # When it, or its process's parent, releases it
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
    # It remains, whatever the outcome of later attempts.
    tried.release(THIRD, died=True)
    fourth = tried.start(ME)
    assert (fourth.attempts, fourth.deaths, fourth.downgrade) == (4, 2, "out_of_memory")


def test_a_release_takes_the_lease_also_if_it_has_gone(tried: Attempts) -> None:
    tried.start(ME)
    tried.expire(ME)

    assert tried.release("worker@a:11:", died=True)

    started = tried.start(OTHER)
    assert (started.verdict, started.attempts, started.deaths) == (Verdict.STARTED, 2, 1)


def test_an_outcome_of_an_attempt_that_counts_no_more_is_refused(tried: Attempts) -> None:
    # Given a second attempt, and a first one that is late
    tried.start(ME)
    tried.release(ME)
    tried.start(OTHER)
    # When the first one has an outcome, then it is refused, and the second continues
    assert not tried.store.execute(outcomes.finish(tried.schema, failure_of("j"), ME))
    assert tried.state() == (JobState.RUNNING, 2)
    assert tried.store.execute(outcomes.fetch(tried.schema, ["j"])) == {}
    assert tried.renew(OTHER)
    # And the second one's outcome is kept
    assert tried.store.execute(outcomes.finish(tried.schema, result_of("j"), OTHER))
    assert tried.state() == (JobState.DONE, 2)


def test_without_a_token_a_job_is_ended_whoever_is_at_it(tried: Attempts) -> None:
    """Cancel a job like a caller, and begin it again."""
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
