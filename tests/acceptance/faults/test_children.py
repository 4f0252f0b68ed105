"""A job whose child dies is done by another child, and the worker survives such jobs."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.documents import long_documents
from tests.ledger import Ledger
from tests.processes import linux_only, wait_until
from tests.stub_models import OTHER, PAIRS_A_SECOND, SLOW
from tests.worker_process import Worker

pytestmark = linux_only

#: Two seconds of work for the slow model.
A_WHILE = long_documents(2 * PAIRS_A_SECOND)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_job_whose_child_is_killed_is_scored_by_the_downgrade_model(ledger: Ledger) -> None:
    # When the child that has a job is killed
    job_id = ledger.submit(A_WHILE)
    _, child = ledger.under_way(job_id)
    kill(child)

    # Then the job has a result of the other model, at the second attempt
    made = ledger.result(job_id).provenance
    assert (made.model_requested, made.model) == (SLOW, OTHER)
    assert (made.downgraded, made.reason, made.attempts) == (True, "worker_died", 2)
    ledger.balance()


def test_a_job_whose_child_is_killed_is_scored_by_its_own_model_if_no_other_may(
    ledger: Ledger,
) -> None:
    job_id = ledger.submit(A_WHILE, allow_downgrade=False)
    _, child = ledger.under_way(job_id)
    kill(child)

    made = ledger.result(job_id).provenance
    assert (made.model, made.downgraded, made.reason) == (SLOW, False, None)
    assert made.attempts == 2
    ledger.balance()


def test_a_job_that_kills_its_child_each_time_is_given_up_and_holds_up_nobody(
    ledger: Ledger,
) -> None:
    # Given a job whose child is killed in every attempt
    poison = ledger.submit(A_WHILE, allow_downgrade=False)
    for attempt in (1, 2, 3):
        _, child = ledger.under_way(poison, attempt)
        kill(child)
        # When others are submitted meanwhile, then they are scored
        others = [ledger.submit() for _ in range(5)]
        assert [ledger.result(each).provenance.attempts for each in others] == [1] * 5

    # And the job has failed, and is kept
    failure = ledger.failure(poison)
    assert (failure.code, failure.attempts) == ("attempts_exhausted", 3)
    assert ledger.dead_letters() == {poison}
    ledger.balance()


@pytest.mark.slow
def test_a_child_that_takes_its_time_to_come_up_is_waited_for(
    ledger: Ledger, worker: Worker
) -> None:
    """Suspend a replacement, which Celery by default kills again and again after four seconds."""
    # Given a child that was killed in its job
    before = worker.children
    job_id = ledger.submit(A_WHILE)
    _, killed = ledger.under_way(job_id)
    kill(killed)

    # When its replacement is stopped for longer than that before it has its models
    wait_until(lambda: bool(worker.children - before), "a new child")
    (new,) = worker.children - before
    os.kill(new, signal.SIGSTOP)
    time.sleep(6)
    os.kill(new, signal.SIGCONT)

    # Then it starts, and there is no third
    assert ledger.result(job_id).provenance.attempts == 2
    seen: set[int] = set()
    while new not in seen:
        seen.add(ledger.under_way(ledger.submit(A_WHILE))[1])
    assert worker.children == before - {killed} | {new}
    ledger.balance()
