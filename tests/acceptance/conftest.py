"""One real worker with two children for all tests of this folder that do not need their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.processes import celery, wait_until

SAMPLE = Path(__file__).parents[2] / "examples" / "packages"


def environment_of(settings: Settings) -> dict[str, str]:
    """What a process needs in order to use the same Redis, with the bundled model."""
    return {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
        "CROSS_ENCODER_MODEL": "bundled",
    }


@pytest.fixture(scope="session")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings under which a worker serves."""
    settings = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    arguments = ("worker", "--loglevel", "INFO", "--concurrency", "2", "-n", settings.namespace)
    with (
        celery(*arguments, log=log, environment=environment_of(settings)) as process,
        RerankClient(settings) as client,
    ):
        wait_until(
            lambda: process.poll() is not None or bool(client.workers(0.5, at_most=1)),
            "a worker answers",
        )
        assert process.poll() is None, log.read_text()
        yield settings
        assert process.poll() is None, f"the worker did not survive the tests: {log.read_text()}"


@pytest.fixture
def client(service: Settings) -> Iterator[RerankClient]:
    with RerankClient(service) as made:
        yield made


@pytest.fixture
def environment(service: Settings) -> dict[str, str]:
    return environment_of(service)
