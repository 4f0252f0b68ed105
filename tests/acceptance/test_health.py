"""`python -m worker.health` finds a worker that cannot score, whether it runs or not."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from contract.errors import NoWorker
from contract.settings import Settings
from tests.acceptance.conftest import environment_of
from tests.embedded_redis import FaultyRedis
from tests.processes import linux_only, run, wait_until
from tests.stub_models import STUB
from tests.worker_process import Worker
from worker.runtime import health as runtime_health
from worker.runtime.app import create_app
from worker.runtime.settings import WorkerSettings

pytestmark = linux_only

#: How often a child is replaced until its replacement is stopped before it has loaded.
REPLACEMENTS = 20


@dataclass(frozen=True)
class Health:
    """Return the result of the health check of a worker."""

    ok: bool
    line: str


def health(settings: Settings, worker: str, timeout_s: float = 5.0) -> Health:
    arguments = ("-d", worker, "--timeout", str(timeout_s))
    done = run("worker.health", *arguments, environment=environment_of(settings))
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1), said
    assert said.count("\n") == 1
    return Health(done.returncode == 0, said.strip())


def replaced(worker: Worker) -> int:
    """Kill a child, and return the one that takes its place."""
    before = worker.children
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: bool(worker.children - before), "a new child")
    (new,) = worker.children - before
    return new


def await_health(settings: Settings, worker: str, what: str) -> None:
    """Wait until the worker is healthy; ask from this process, which is faster than a command."""
    url = settings.redis_url.get_secret_value()
    asked = WorkerSettings.load(redis_url=url, namespace=settings.namespace)
    with create_app(asked) as app:

        def is_healthy() -> bool:
            try:
                found = runtime_health.ask(app, f"celery@{worker}", timeout_s=5.0)
            except NoWorker:
                return False
            return bool(found["ready"] == found["children"])

        wait_until(is_healthy, what)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyRedis]:
    with FaultyRedis() as made:
        yield made


@pytest.fixture(scope="module")
def settings(server: FaultyRedis) -> Settings:
    return server.settings()


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    environment = {"CROSS_ENCODER_MODEL": STUB}
    with Worker(settings, tmp_path_factory.mktemp("worker"), environment) as made:
        await_health(settings, made.name, "the worker is healthy")
        yield made


def test_a_worker_is_healthy_whose_children_have_their_models(
    settings: Settings, worker: Worker
) -> None:
    found = health(settings, worker.name)

    assert found == Health(True, f"celery@{worker.name}: 2 of 2 children ready, model {STUB}")


def test_a_child_that_replaces_another_counts_once_it_has_its_model(
    settings: Settings, worker: Worker
) -> None:
    # Given a killed child, and a replacement that is stopped before it has loaded
    for _ in range(REPLACEMENTS):
        with stopped(replaced(worker)):
            # When the worker is asked, then one of two is ready
            found = health(settings, worker.name)
        if not found.ok:
            break
    # What the child has reported by then may follow.
    assert found.line.startswith(f"celery@{worker.name}: 1 of 2 children ready, model {STUB}")

    # And both are ready once it has loaded
    await_health(settings, worker.name, "the new child is ready")


def test_a_worker_that_stands_still_is_not_healthy(settings: Settings, worker: Worker) -> None:
    with stopped(worker.process.pid):
        found = health(settings, worker.name, timeout_s=1.0)

    assert not found.ok
    assert re.match(f"celery@{worker.name}: no answer within 1 s", found.line)
    await_health(settings, worker.name, "it continues")


def test_a_worker_that_is_not_there_is_not_healthy(settings: Settings) -> None:
    found = health(settings, "nobody", timeout_s=0.5)

    assert not found.ok
    assert re.match("celery@nobody: no answer within 0.5 s", found.line)


def test_without_a_redis_the_check_says_so() -> None:
    with FaultyRedis() as server:
        settings = server.settings()
        with server.away():
            gone = health(settings, "any")
        with server.standing_still():
            silent = health(settings, "any", timeout_s=0.5)

    for found in (gone, silent):
        assert not found.ok
        assert f"Redis at {settings.redis_location} does not answer" in found.line
