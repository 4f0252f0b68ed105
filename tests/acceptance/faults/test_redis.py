"""Redis fails in every way it can; accepted jobs are done when it is back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contract import errors
from contract.settings import Settings
from tests.acceptance.faults.conftest import ENVIRONMENT
from tests.documents import long_documents
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.processes import linux_only, wait_until
from tests.stub_models import PAIRS_A_SECOND
from tests.worker_process import Worker, await_workers

pytestmark = linux_only

A_WHILE = long_documents(3 * PAIRS_A_SECOND)

#: The line of a child that cannot store its scores.
WAITING = re.compile(r"WARNING/(ForkPoolWorker-\d+)\] Waiting for Redis")


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


@contextmanager
def until_scores_wait(worker: Worker, children: int) -> Iterator[None]:
    """Wait at the end of the block until this many children cannot store their scores."""
    start = len(worker.log.read_text())
    yield

    def all_wait() -> bool:
        return len(set(WAITING.findall(worker.log.read_text()[start:]))) == children

    wait_until(all_wait, "scores cannot be stored")


def test_a_job_outlives_a_restart_of_redis(
    ledger: Ledger, server: FaultyRedis, worker: Worker
) -> None:
    # Given running jobs, and jobs that wait
    running = [ledger.submit(A_WHILE) for _ in range(2)]
    for job_id in running:
        ledger.under_way(job_id)
    waiting = [ledger.submit() for _ in range(20)]

    # When Redis is away until their scores are ready, and cannot be stored
    with server.away(), until_scores_wait(worker, children=2):
        pass

    # Then they are stored later, and nothing is lost
    ledger.balance()
    assert {ledger.result(job_id).provenance.downgraded for job_id in running} == {False}
    assert len(ledger.outcomes()) == len(running) + len(waiting)


def test_a_job_outlives_a_redis_that_stands_still(
    ledger: Ledger, server: FaultyRedis, worker: Worker
) -> None:
    # Given a running job
    job_id = ledger.submit(A_WHILE)
    ledger.under_way(job_id)

    # When Redis is suspended until its scores are ready, and longer than all timeouts on a socket
    with (
        server.standing_still(),
        until_scores_wait(worker, children=1),
        # Then a producer gets an error, and cannot know whether its job was accepted
        pytest.raises(errors.RedisUnavailable),
    ):
        ledger.submit(job_id="again")

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
    ledger: Ledger, server: FaultyRedis, worker: Worker
) -> None:
    # Given running jobs, and jobs that wait
    running = [ledger.submit(A_WHILE) for _ in range(2)]
    for job_id in running:
        ledger.under_way(job_id)
    waiting = [ledger.submit() for _ in range(10)]

    # When Redis is full until scores are ready, and other jobs must be taken
    with server.full(), until_scores_wait(worker, children=2):
        # Then a producer's submission is refused for now
        with pytest.raises((errors.Overloaded, errors.RedisUnavailable)) as refused:
            ledger.submit()
        assert refused.value.retryable

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

        start = len(worker.log.read_text())
        with server.standing_still():
            worker.ask_to_end()
            wait_until(
                lambda: "Failed to renew 1 lease" in worker.log.read_text()[start:],
                "the lease cannot be renewed",
            )

        assert worker.wait() == 0
        assert not ledger.result(job_id).provenance.downgraded
        ledger.balance()
