"""One server and one worker for all tests whose fault leaves them alive."""

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
from tests.unit import tiny_models
from tests.worker_process import Worker, await_children, await_workers

#: A pair of 512 tokens takes 32 MiB in the large model, and 8 MiB in the small one. Four pairs are
#: a batch.
LARGE, SMALL = 16_384, 4_096
BATCH_TOKENS = 2_048
#: The large model scores about so many such pairs on one core.
PAIRS_A_SECOND = 35

#: Allocations of this size are asked of the system and given back to it, each by itself: a limit
#: to what it gives is felt at once. What glibc keeps in reserve would hide it.
ALL_FROM_THE_SYSTEM = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**20)}


@dataclass(frozen=True)
class Models:
    """Folders of two models: what a job is scored with, and what it is downgraded to."""

    large: str
    small: str


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    return Models(
        large=tiny_models.bert(folder / "large", intermediate_size=LARGE),
        small=tiny_models.bert(folder / "small", intermediate_size=SMALL),
    )


@pytest.fixture(scope="session")
def environment(models: Models) -> dict[str, str]:
    """Settings of workers that lose no time: neither with what is dead, nor with measuring."""
    return {
        **ALL_FROM_THE_SYSTEM,
        "CROSS_ENCODER_MODEL": models.large,
        "RERANKQ_DOWNGRADE_MODEL": models.small,
        "RERANKQ_THREADS": "1",
        "RERANKQ_MAX_BATCH_TOKENS": str(BATCH_TOKENS),
        "RERANKQ_LEASE_S": "3",
        "RERANKQ_SWEEP_EVERY_S": "1",
        "RERANKQ_RESEND_AFTER_S": "3",
        "RERANKQ_MAX_ATTEMPTS": "3",
    }


@pytest.fixture(scope="package")
def server() -> Iterator[FaultyRedis]:
    with FaultyRedis() as made:
        yield made


@dataclass(frozen=True)
class Service:
    """A worker, and what it works on."""

    server: FaultyRedis
    settings: Settings
    worker: Worker


@contextmanager
def serving(
    server: FaultyRedis, environment: dict[str, str], folder: Path, concurrency: int
) -> Iterator[Service]:
    """A worker whose children have loaded their models. It must outlive all."""
    settings = server.settings()
    with Worker(settings, folder, environment, concurrency) as worker, Ledger(settings) as ledger:
        await_workers(ledger, worker)
        await_children(ledger, worker, long_documents(PAIRS_A_SECOND))
        yield Service(server, settings, worker)
        assert worker.alive, worker.log.read_text()


@pytest.fixture(scope="package")
def service(
    server: FaultyRedis, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with serving(server, environment, tmp_path_factory.mktemp("worker"), 2) as made:
        yield made


@pytest.fixture
def worker(service: Service) -> Worker:
    return service.worker


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    """A new page. The worker must be as alive after the test as before."""
    assert service.worker.alive, service.worker.log.read_text()
    with Ledger(service.settings) as made:
        yield made
        assert service.worker.alive, service.worker.log.read_text()
