"""A worker with the bundled model, or with a stub, for tests that do not need their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.models import KNOWN_MODELS, is_stub
from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests import rounded_model
from tests.processes import MODEL_LIBRARIES, celery, wait_until
from tests.stub_models import ABSENT, OTHER, SLOW, STUB

BUNDLED = "bundled"
SAMPLE = Path(__file__).parents[2] / "examples" / "packages"


def environment_of(settings: Settings, model: str = STUB) -> dict[str, str]:
    """Return the variables of a process that uses the same Redis, with this model."""
    return {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
        "CROSS_ENCODER_MODEL": model,
        "RERANKQ_ALLOWED_MODELS": ",".join(settings.allowed_models),
    }


@contextmanager
def serving(redis_url: str, folder: Path, model: str, **settings: Any) -> Iterator[Settings]:
    """Run a worker with two children, which must outlive the tests; yield its settings."""
    made: Settings = Settings.load(
        redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}", **settings
    )
    log = folder / "worker.log"
    arguments = ("worker", "--loglevel", "INFO", "--concurrency", "2", "-n", made.namespace)
    environment, libraries = environment_of(made, model), () if is_stub(model) else MODEL_LIBRARIES
    with (
        celery(*arguments, log=log, environment=environment, libraries=libraries) as process,
        RerankClient(made) as client,
    ):
        wait_until(
            lambda: process.poll() is not None or bool(client.workers(0.5, at_most=1)),
            "a worker answers",
        )
        assert process.poll() is None, log.read_text()
        yield made
        assert process.poll() is None, f"the worker did not survive the tests: {log.read_text()}"


@pytest.fixture(scope="session")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a model that scores nearly like the bundled one."""
    return str(rounded_model.write(tmp_path_factory.mktemp("models") / "rounded"))


@pytest.fixture(scope="session")
def service(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, rounded: str
) -> Iterator[Settings]:
    """Return the settings of a worker with the bundled model, which a job may replace."""
    allowed = ",".join((*KNOWN_MODELS, rounded))
    folder = tmp_path_factory.mktemp("worker")
    with serving(redis_url, folder, BUNDLED, allowed_models=allowed) as made:
        yield made


@pytest.fixture(scope="session")
def stub_service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return the settings of a worker with a stub, by default the fast one."""
    folder = tmp_path_factory.mktemp("worker")
    with serving(redis_url, folder, STUB, allowed_models=f"{OTHER},{ABSENT},{SLOW}") as made:
        yield made


@pytest.fixture
def client(service: Settings) -> Iterator[RerankClient]:
    with RerankClient(service) as made:
        yield made


@pytest.fixture
def environment(service: Settings) -> dict[str, str]:
    return environment_of(service, BUNDLED)
