"""One server and one worker for all tests whose fault leaves them alive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from contract.settings import Settings
from tests.acceptance.faults.parts import (
    Ledger,
    Server,
    Worker,
    await_children,
    await_workers,
    long_documents,
)
from tests.unit import tiny_models

#: A pair of 512 tokens takes 16 MiB in the large model, and 10 MiB in the small one. Four pairs are
#: a batch.
LARGE, SMALL = 8_192, 5_120
BATCH_TOKENS = 2_048
#: The large model scores about so many such pairs on one core.
PAIRS_A_SECOND = 65

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
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@dataclass(frozen=True)
class Service:
    """A worker with two children, and what it works on."""

    server: Server
    settings: Settings
    worker: Worker


@pytest.fixture(scope="package")
def service(
    server: Server, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = server.settings()
    folder = tmp_path_factory.mktemp("worker")
    with Worker(settings, folder, environment) as worker, Ledger(settings) as ledger:
        await_workers(ledger, worker)
        await_children(ledger, worker, long_documents(PAIRS_A_SECOND))
        pid = worker.process.pid
        yield Service(server, settings, worker)
        assert worker.alive, f"process {pid} did not survive: {worker.log.read_text()}"


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
