"""A worker and Flower, and jobs of each kind: done, downgraded, failed, cancelled, killed."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from contract.settings import Settings
from tests.documents import SHORT, long_documents
from tests.flower_process import Flower
from tests.ledger import Ledger
from tests.processes import limited_memory, wait_until
from tests.stub_models import BATCH_TOKENS, LARGE, MIB, PAIRS_A_SECOND, SMALL
from tests.worker_process import ALL_FROM_THE_SYSTEM, LOSING_NO_TIME, Worker, await_workers

#: Room for a few pairs in the large model, and for one pair in the small model alone.
PART_OF_A_BATCH = 95 * MIB
SMALL_MODEL_ONLY = 22 * MIB

ENVIRONMENT = (
    LOSING_NO_TIME
    | ALL_FROM_THE_SYSTEM
    | {
        "CROSS_ENCODER_MODEL": LARGE,
        "RERANKQ_DOWNGRADE_MODEL": SMALL,
        "RERANKQ_MAX_BATCH_TOKENS": str(BATCH_TOKENS),
        # Each job has one message, because Flower counts messages.
        "RERANKQ_RESEND_AFTER_S": "600",
    }
)

#: Appears in no page, no message and no metric.
UNSEEN = "a document that nobody but the model may see"


@dataclass(frozen=True)
class Watched:
    """The worker, Flower and jobs, after all jobs have ended."""

    settings: Settings
    environment: dict[str, str]
    worker: Worker
    flower: Flower
    ledger: Ledger
    #: The ids of jobs, by outcome.
    done: tuple[str, ...]
    downgraded: str
    killed: str
    failed: str
    cancelled: tuple[str, str]


@pytest.fixture(scope="session")
def watched(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watching")
    settings = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    with (
        Ledger(settings) as ledger,
        Flower(settings, folder) as flower,
        Worker(settings, folder, ENVIRONMENT, concurrency=1) as worker,
    ):
        await_workers(ledger, worker)
        wait_until(lambda: flower.hears(worker.name), "Flower hears the worker")
        done = (*_done(ledger), _in_parts(ledger, worker))
        downgraded, failed = _lacking_memory(ledger, worker)
        cancelled = _cancelled(ledger)
        killed = _killed(ledger)
        ledger.balance()
        yield Watched(
            settings=settings,
            environment={
                "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
                "RERANKQ_NAMESPACE": settings.namespace,
            },
            worker=worker,
            flower=flower,
            ledger=ledger,
            done=done,
            downgraded=downgraded,
            killed=killed,
            failed=failed,
            cancelled=cancelled,
        )


def _done(ledger: Ledger) -> tuple[str, ...]:
    documents = [list(SHORT), [UNSEEN, UNSEEN, "another"], long_documents(PAIRS_A_SECOND)]
    ids = tuple(ledger.submit(each) for each in documents)
    for job_id in ids:
        ledger.result(job_id)
    return ids


def _in_parts(ledger: Ledger, worker: Worker) -> str:
    """Run a job whose batches are halved, so that its child has no memory in reserve."""
    ledger.balance()
    with limited_memory(worker.children, PART_OF_A_BATCH):
        job_id = ledger.submit(long_documents(12))
        ledger.result(job_id)
    ledger.balance()
    return job_id


def _lacking_memory(ledger: Ledger, worker: Worker) -> tuple[str, str]:
    """Run a job that the small model scores, and one that it must not score."""
    with limited_memory(worker.children, SMALL_MODEL_ONLY):
        downgraded = ledger.submit(long_documents(2))
        ledger.result(downgraded)
        failed = ledger.submit(long_documents(2), allow_downgrade=False)
        ledger.failure(failed)
    return downgraded, failed


def _cancelled(ledger: Ledger) -> tuple[str, str]:
    """Cancel a job that is running, and one that waits behind it."""
    running = ledger.submit(long_documents(10 * PAIRS_A_SECOND))
    ledger.under_way(running)
    waiting = ledger.submit()
    for job_id in (waiting, running):
        assert ledger.client.cancel(job_id)
    return running, waiting


def _killed(ledger: Ledger) -> str:
    """Run a job whose first attempt is killed."""
    job_id = ledger.submit(long_documents(2 * PAIRS_A_SECOND))
    _, pid = ledger.under_way(job_id)
    os.kill(pid, signal.SIGKILL)
    ledger.result(job_id)
    return job_id
