"""When a worker is killed, asked to end, or has no models, other workers do its jobs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contract.settings import Settings
from tests import bert_files
from tests.acceptance.faults.conftest import ENVIRONMENT
from tests.documents import long_documents
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.processes import linux_only, wait_until
from tests.stub_models import PAIRS_A_SECOND
from tests.worker_process import Worker, await_workers

A_WHILE = long_documents(2 * PAIRS_A_SECOND)

Start = Callable[..., Worker]


@pytest.fixture
def settings(server: FaultyRedis) -> Settings:
    return server.settings()


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with Ledger(settings) as made:
        yield made


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Starts workers with one child each, which end with the test."""
    with ExitStack() as workers:

        def start(concurrency: int = 1, **changes: str) -> Worker:
            made = Worker(settings, tmp_path, ENVIRONMENT | changes, concurrency)
            return workers.enter_context(made)

        yield start


@linux_only
def test_a_job_whose_worker_is_killed_is_done_by_another(ledger: Ledger, start: Start) -> None:
    """Check that it takes far less than the visibility timeout, which is a quarter of an hour."""
    # Given two workers
    workers = {worker.name: worker for worker in (start(), start())}
    await_workers(ledger, *workers.values())

    # When the one that has a job is killed, with another job behind it
    job_id = ledger.submit(A_WHILE)
    killed, child = ledger.under_way(job_id)
    workers[killed].kill()
    behind = ledger.submit()

    # Then the other one does both, and no child of the first is left
    assert ledger.result(job_id).provenance.attempts == 2
    assert ledger.result(behind).provenance.attempts == 1
    assert not Path(f"/proc/{child}").exists()
    # And after the visibility timeout, the message that it held does no harm
    ledger.redeliver()
    ledger.balance()


@pytest.mark.slow
@linux_only
def test_a_job_that_kills_its_worker_each_time_is_given_up(ledger: Ledger, start: Start) -> None:
    # Given as many workers as a job has attempts, and one more
    limit = {"RERANKQ_MAX_ATTEMPTS": "2"}
    workers = {worker.name: worker for worker in [start(**limit) for _ in range(3)]}
    await_workers(ledger, *workers.values())

    # When each worker that starts the job is killed
    poison = ledger.submit(A_WHILE, allow_downgrade=False)
    for attempt in (1, 2):
        killed, _ = ledger.under_way(poison, attempt)
        workers[killed].kill()

    # Then the job has failed, and is kept; and the last worker continues
    failure = ledger.failure(poison)
    assert (failure.code, failure.attempts) == ("attempts_exhausted", 2)
    assert ledger.dead_letters() == {poison}
    assert ledger.result(ledger.submit()).provenance.attempts == 1
    ledger.redeliver()
    ledger.balance()


@pytest.mark.slow
def test_a_worker_that_is_asked_to_end_under_load_leaves_the_rest_to_another(
    ledger: Ledger, start: Start
) -> None:
    # Given a worker with two children, another, and many jobs
    worker, other = start(2), start()
    await_workers(ledger, worker, other)
    ids = [ledger.submit(long_documents(4 * (number % 4) + 1)) for number in range(30)]
    wait_until(lambda: len(ledger.outcomes()) > 3, "some are done")

    # When the worker is asked to end
    worker.ask_to_end()

    # Then it ends well, and all jobs are done; a job that was done without its knowledge is not
    # repeated
    assert worker.wait() == 0
    attempts = [ledger.result(job_id).provenance.attempts for job_id in ids]
    assert sum(attempts) <= len(ids) + 2
    assert len(ledger.outcomes()) == len(ids)
    ledger.balance()


def spoil(model: str, folder: Path) -> str:
    """Return a copy of the model with half of its weights."""
    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return str(folder)


@pytest.mark.slow
def test_only_a_worker_that_has_its_models_takes_jobs(
    ledger: Ledger, start: Start, tmp_path: Path
) -> None:
    job_id = ledger.submit()

    # When workers start with a corrupt model, or a corrupt downgrade model from their settings
    whole = bert_files.bert(tmp_path / "whole")
    corrupt = spoil(whole, tmp_path / "corrupt")
    broken = [start(CROSS_ENCODER_MODEL=corrupt), start(RERANKQ_DOWNGRADE_MODEL=corrupt)]
    # And one that finds no default downgrade model, without network or cache
    worker = start(
        CROSS_ENCODER_MODEL=whole,
        RERANKQ_DOWNGRADE_MODEL="",
        HF_HOME=str(tmp_path),
        HF_HUB_OFFLINE="1",
    )

    # Then those end with a reason, and the last one has done the job
    for each in broken:
        assert each.wait() == 69
        assert f"{corrupt!r} cannot be loaded" in each.log.read_text()
    assert ledger.result(job_id).provenance.attempts == 1
    assert worker.alive
    ledger.balance()
