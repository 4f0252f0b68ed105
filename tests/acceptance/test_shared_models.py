"""The children of a worker share models that were loaded once, and a replaced child does too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
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
from worker.engine import load

pytestmark = linux_only

DOCUMENTS = ["a mail client", "a web browser", "a mail server for local users", ""]
SHARED = "All children share the weights of bundled"
LOADED = "Loading cross-encoder model: bundled"
READY = "Warmed up bundled"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


@pytest.fixture
def worker(settings: Settings, log: Path) -> Iterator[Process]:
    """Start a worker whose libraries would compute with four threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RERANKQ_THREADS"), "4")
    own = {"RERANKQ_ALLOWED_MODELS": BUNDLED, "RERANKQ_MAX_BATCH_TOKENS": "512"}
    environment = environment_of(settings, BUNDLED) | own | threads
    arguments = ("worker", "--loglevel=INFO", "--concurrency=2", "-n", settings.namespace)
    with celery(*arguments, log=log, environment=environment, libraries=MODEL_LIBRARIES) as process:
        yield process


def logits(settings: Settings) -> list[float]:
    with RerankClient(settings) as client:
        documents = client.rerank("a mail program", DOCUMENTS, timeout=90).documents
    return [each.score for each in sorted(documents, key=lambda each: each.index)]


def await_children(log: Path, number: int) -> None:
    wait_until(lambda: log.read_text().count(READY) >= number, f"{number} children are ready")


def test_children_and_their_replacements_share_what_was_loaded_once(
    settings: Settings, worker: Process, log: Path
) -> None:
    # Given a worker whose children are ready
    await_children(log, 2)
    pairs = [("a mail program", document) for document in DOCUMENTS]
    expected = load(BUNDLED, threads=1, max_batch_tokens=512).score(pairs)
    assert logits(settings) == expected

    # When each child is killed and replaced
    for killed, child in enumerate(children_of(worker.pid), start=1):
        os.kill(child, signal.SIGKILL)
        await_children(log, 2 + killed)

    # Then the new ones score the same to the last bit, and one process has loaded the model
    assert logits(settings) == expected
    text = log.read_text()
    assert text.count(LOADED) == 1
    assert text.count(SHARED) == 1
    assert "INFO/ModelLoader] " + LOADED in text
    # And the main process has had no other thread when it forked
    assert [task.name for task in Path(f"/proc/{worker.pid}/task").iterdir()] == [str(worker.pid)]


def test_children_load_the_model_themselves_if_the_process_that_loads_it_is_killed(
    settings: Settings, worker: Process, log: Path
) -> None:
    # When the first child of the main process is killed, which loads the model
    wait_until(lambda: bool(children_of(worker.pid)), "a process loads the model")
    os.kill(children_of(worker.pid)[0], signal.SIGKILL)

    # Then the worker serves nevertheless, and its log has the reason
    await_children(log, 2)
    assert len(logits(settings)) == len(DOCUMENTS)
    text = log.read_text()
    assert "Each child loads the models itself, because the process that loads them" in text
    assert "ended with exit code -9" in text
    assert SHARED not in text
    assert "Traceback" not in text
