"""The children of a worker share models that were loaded once, and a replaced child does too."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.processes import (
    MODEL_LIBRARIES,
    Process,
    celery,
    children_of,
    linux_only,
    wait_until,
)

pytestmark = linux_only

DOCUMENTS = ["a mail client", "a web browser", "a mail server for local users", ""]
SHARED = "All children share the weights of bundled"
LOADED = "Loading cross-encoder model: bundled"
READY = "Warmed up bundled"


@contextmanager
def starting(settings: Settings, log: Path) -> Iterator[Process]:
    """Start a worker whose libraries would compute with a thread for each core."""
    own = {"RERANKQ_ALLOWED_MODELS": BUNDLED, "RERANKQ_THREADS": "4"}
    environment = environment_of(settings, BUNDLED) | own
    arguments = ("worker", "--loglevel=INFO", "--concurrency=2", "-n", settings.namespace)
    with celery(*arguments, log=log, environment=environment, libraries=MODEL_LIBRARIES) as process:
        yield process


@dataclass(frozen=True)
class Unshared:
    """The log and the scores of a worker whose children have loaded the model themselves."""

    log: str
    logits: list[float]


@pytest.fixture(scope="module")
def unshared(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Unshared:
    """Kill the first child of the main process, which loads the model for all of them."""
    log = tmp_path_factory.mktemp("unshared") / "worker.log"
    settings = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    with starting(settings, log) as worker:
        wait_until(lambda: bool(children_of(worker.pid)), "a process loads the model")
        os.kill(children_of(worker.pid)[0], signal.SIGKILL)
        await_children(log, 2)
        return Unshared(logits=logits(settings), log=log.read_text())


def logits(settings: Settings) -> list[float]:
    with RerankClient(settings) as client:
        documents = client.rerank("a mail program", DOCUMENTS, timeout=90).documents
    return [each.score for each in sorted(documents, key=lambda each: each.index)]


def await_children(log: Path, number: int) -> None:
    wait_until(lambda: log.read_text().count(READY) >= number, f"{number} children are ready")


def test_children_and_their_replacements_share_what_was_loaded_once(
    settings: Settings, tmp_path: Path, unshared: Unshared
) -> None:
    # Given a worker whose children are ready, and score like those that load the model themselves
    log = tmp_path / "worker.log"
    with starting(settings, log) as worker:
        await_children(log, 2)
        assert logits(settings) == unshared.logits

        # When each child is killed and replaced
        for killed, child in enumerate(children_of(worker.pid), start=1):
            os.kill(child, signal.SIGKILL)
            await_children(log, 2 + killed)

        # Then the new ones have exactly the same scores, and one process has loaded the model
        assert logits(settings) == unshared.logits
        text = log.read_text()
        assert text.count(LOADED) == 1
        assert text.count(SHARED) == 1
        assert "INFO/ModelLoader] " + LOADED in text
        # And the main process has had no other thread when it forked
        tasks = [task.name for task in Path(f"/proc/{worker.pid}/task").iterdir()]
        assert tasks == [str(worker.pid)]


def test_children_load_the_model_themselves_if_the_process_that_loads_it_is_killed(
    unshared: Unshared,
) -> None:
    # Then the worker has served nevertheless, and its log has the reason
    assert len(unshared.logits) == len(DOCUMENTS)
    assert "Each child loads the models itself, because the process that loads them" in unshared.log
    assert "ended with exit code -9" in unshared.log
    assert unshared.log.count(LOADED) >= 2
    assert SHARED not in unshared.log
    assert "Traceback" not in unshared.log
