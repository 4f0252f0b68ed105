"""Redis fails in every way it can; accepted jobs are done when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from contract import errors
from contract.settings import Settings
from tests.acceptance.faults.conftest import ENVIRONMENT
from tests.documents import long_documents
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.processes import linux_only
from tests.stub_models import PAIRS_A_SECOND
from tests.worker_process import Worker, await_workers

pytestmark = linux_only

A_WHILE = long_documents(3 * PAIRS_A_SECOND)

#: Redis is suspended for longer than all timeouts on a socket, which are 10 s.
STILL_S = 11


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRedis]:
    """Return a server that keeps its data on disk, and can be stopped and started."""
    with FaultyRedis(appendonly="yes", appendfsync="always") as made:
        yield made


@pytest.fixture(scope="module")
def settings(server: FaultyRedis) -> Settings:
    return server.settings()


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    with Worker(settings, folder, ENVIRONMENT) as made, Ledger(settings) as ledger:
        await_workers(ledger, made)
        yield made


@pytest.fixture
def ledger(settings: Settings, worker: Worker) -> Iterator[Ledger]:
    assert worker.alive, worker.log.read_text()
    with Ledger(settings) as made:
        yield made
        assert worker.alive, worker.log.read_text()


def test_a_job_outlives_a_restart_of_redis(ledger: Ledger, server: FaultyRedis) -> None:
    # Given running jobs, and jobs that wait
    running = [ledger.submit(A_WHILE) for _ in range(2)]
    for job_id in running:
        ledger.under_way(job_id)
    waiting = [ledger.submit() for _ in range(20)]

    # When Redis is away until their scores are ready, and cannot be stored
    with server.away():
        time.sleep(5)

    # Then they are stored later, and nothing is lost
    ledger.balance()
    assert {ledger.result(job_id).provenance.downgraded for job_id in running} == {False}
    assert len(ledger.outcomes()) == len(running) + len(waiting)


def test_a_job_outlives_a_redis_that_stands_still(ledger: Ledger, server: FaultyRedis) -> None:
    # Given a running job
    job_id = ledger.submit(A_WHILE)
    ledger.under_way(job_id)

    # When Redis is suspended until its scores are ready
    with server.standing_still():
        # Then a producer gets an error, and cannot know whether its job was accepted
        with pytest.raises(errors.RedisUnavailable):
            ledger.submit(job_id="again")
        time.sleep(STILL_S)

    # And when Redis continues, the job has its result, and so has the producer's when submitted
    # again
    assert not ledger.result(job_id).provenance.downgraded
    assert ledger.result(ledger.submit(job_id="again")).provenance.attempts == 1
    ledger.balance()


@pytest.mark.slow
def test_an_idle_worker_outlives_a_redis_that_stands_still(
    ledger: Ledger, server: FaultyRedis
) -> None:
    ledger.result(ledger.submit())

    with server.standing_still():
        time.sleep(40)

    assert ledger.result(ledger.submit()).provenance.attempts == 1
    ledger.balance()


def test_what_was_accepted_before_redis_was_full_is_done_when_it_no_longer_is(
    ledger: Ledger, server: FaultyRedis
) -> None:
    # Given running jobs, and jobs that wait
    running = [ledger.submit(A_WHILE) for _ in range(2)]
    for job_id in running:
        ledger.under_way(job_id)
    waiting = [ledger.submit() for _ in range(10)]

    # When Redis is full until scores are ready, and other jobs must be taken
    with server.full():
        # Then a producer's submission is refused for now
        with pytest.raises((errors.Overloaded, errors.RedisUnavailable)) as refused:
            ledger.submit()
        assert refused.value.retryable
        time.sleep(6)

    # And when there is room, all accepted jobs are done, and so is the next one
    ledger.balance()
    assert {ledger.result(job_id).provenance.downgraded for job_id in running} == {False}
    assert len(ledger.outcomes()) == len(running) + len(waiting)
    assert ledger.result(ledger.submit()).provenance.attempts == 1


def test_a_job_does_not_fail_for_an_event_that_cannot_be_published(
    ledger: Ledger, server: FaultyRedis, settings: Settings
) -> None:
    # Given a Redis that refuses only the messages for Flower
    ours = settings.namespace
    with server.channels(f"{ours}:done", f"{ours}:celery-task-meta-*", f"/0.{ours}.pidbox"):
        ids = [ledger.submit() for _ in range(5)]

        # Then jobs are scored as usual
        assert {ledger.result(job_id).provenance.attempts for job_id in ids} == {1}
        ledger.balance()
        assert server.refused() > len(ids)


def test_a_worker_that_is_asked_to_end_while_redis_stands_still_ends(
    server: FaultyRedis, settings: Settings, worker: Worker
) -> None:
    """Stop the worker; this is the last test of this file."""
    with Ledger(settings) as ledger:
        job_id = ledger.submit(A_WHILE)
        ledger.under_way(job_id)

        with server.standing_still():
            worker.ask_to_end()
            time.sleep(5)

        assert worker.wait() == 0
        assert not ledger.result(job_id).provenance.downgraded
        ledger.balance()
