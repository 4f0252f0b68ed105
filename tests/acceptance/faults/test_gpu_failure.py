"""A child whose GPU failed ends itself, another one takes its place, and its job is tried again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from contract.settings import Settings
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.stub_models import OTHER
from tests.worker_process import LOSING_NO_TIME, Worker, await_workers
from worker.runtime.restart import EXIT_GPU_FAILED

#: A child fails as one whose GPU has failed does once it has scored this many pairs.
PAIRS = 10


@pytest.fixture(scope="module")
def settings(server: FaultyRedis) -> Settings:
    return server.settings()


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    environment = LOSING_NO_TIME | {
        "CROSS_ENCODER_MODEL": f"stub:poison_after={PAIRS}",
        "RERANKQ_DOWNGRADE_MODEL": OTHER,
    }
    folder = tmp_path_factory.mktemp("worker")
    with Worker(settings, folder, environment, 1) as made, Ledger(settings) as ledger:
        await_workers(ledger, made)
        yield made
        assert made.alive, made.log.read_text()


@pytest.fixture
def ledger(settings: Settings, worker: Worker) -> Iterator[Ledger]:
    assert worker.alive
    with Ledger(settings) as made:
        yield made


def exits(worker: Worker) -> list[tuple[str, str]]:
    """Return the exit code and the job in each line of a child that ended itself."""
    line = r"Process exiting with code (\d+): its GPU has failed.* Job (\S+) will be tried again"
    return re.findall(line, worker.log.read_text())


def interruptions(worker: Worker, job_id: str) -> int:
    """Return how often the log says that an attempt at the job was interrupted."""
    return worker.log.read_text().count(f"Job {job_id} interrupted")


def test_a_job_of_a_gpu_that_failed_is_scored_by_the_next_child(
    ledger: Ledger, worker: Worker
) -> None:
    (first,) = worker.children
    documents = [f"document {number}" for number in range(6)]
    before = ledger.result(ledger.submit(documents))
    # When a child has scored six pairs, and six more make its GPU fail
    job_id = ledger.submit(documents)
    # Then its replacement scores them with the same model
    after = ledger.result(job_id)
    assert (before.provenance.attempts, after.provenance.attempts) == (1, 2)
    assert after.rankings == before.rankings
    assert not after.provenance.downgraded
    assert first not in worker.children
    assert exits(worker) == [(str(EXIT_GPU_FAILED), job_id)]
    assert f"exitcode {EXIT_GPU_FAILED}" in worker.log.read_text()
    assert interruptions(worker, job_id) == 1
    ledger.balance()


def test_a_job_that_makes_two_gpus_fail_is_scored_by_the_smaller_model(
    ledger: Ledger, worker: Worker
) -> None:
    job_id = ledger.submit([f"document {number}" for number in range(2 * PAIRS)])
    made = ledger.result(job_id).provenance
    assert [job for _, job in exits(worker)].count(job_id) == 2
    assert (made.attempts, made.model, made.reason) == (3, OTHER, "worker_died")
    assert interruptions(worker, job_id) == 2
    ledger.balance()


def test_a_job_that_makes_every_gpu_fail_is_given_up(ledger: Ledger, worker: Worker) -> None:
    documents = [f"document {number}" for number in range(2 * PAIRS)]
    job_id = ledger.submit(documents, allow_downgrade=False)
    failure = ledger.failure(job_id)
    assert (failure.code, failure.attempts) == ("attempts_exhausted", 3)
    assert [job for _, job in exits(worker)].count(job_id) == 3
    assert ledger.dead_letters() == {job_id}
    # And the next job is done by the next child
    assert ledger.result(ledger.submit(["another"])).provenance.attempts == 1
    ledger.balance()
