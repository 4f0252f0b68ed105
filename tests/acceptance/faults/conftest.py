"""One server and one worker for all tests of a file whose faults leave them alive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.settings import Settings
from tests.documents import long_documents
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.stub_models import BATCH_TOKENS, OTHER, PAIRS_A_SECOND, SLOW
from tests.worker_process import LOSING_NO_TIME, Worker, await_children, await_workers

#: A slow model, and a fast one with different scores.
ENVIRONMENT = LOSING_NO_TIME | {
    "CROSS_ENCODER_MODEL": SLOW,
    "RERANKQ_DOWNGRADE_MODEL": OTHER,
    "RERANKQ_MAX_BATCH_TOKENS": str(BATCH_TOKENS),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyRedis]:
    with FaultyRedis() as made:
        yield made


@dataclass(frozen=True)
class Service:
    """A worker, its server, and its settings."""

    server: FaultyRedis
    settings: Settings
    worker: Worker


@contextmanager
def serving(
    server: FaultyRedis, environment: dict[str, str], folder: Path, concurrency: int
) -> Iterator[Service]:
    """Run a worker whose children have loaded their models; it must survive all tests."""
    settings = server.settings()
    with Worker(settings, folder, environment, concurrency) as worker, Ledger(settings) as ledger:
        await_workers(ledger, worker)
        await_children(ledger, worker, long_documents(PAIRS_A_SECOND))
        yield Service(server, settings, worker)
        assert worker.alive, worker.log.read_text()


@pytest.fixture(scope="module")
def service(server: FaultyRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(server, ENVIRONMENT, tmp_path_factory.mktemp("worker"), 2) as made:
        yield made


@pytest.fixture
def worker(service: Service) -> Worker:
    return service.worker


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    """Yield a new ledger, and check that the worker is alive before and after the test."""
    assert service.worker.alive, service.worker.log.read_text()
    with Ledger(service.settings) as made:
        yield made
        assert service.worker.alive, service.worker.log.read_text()
