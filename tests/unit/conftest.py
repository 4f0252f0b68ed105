"""Fixtures of tests of models. Torch is imported only by tests that need it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import hub_cache

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Make torch compute in one thread, because two are slower for tiny models.

    Tests of threads set their own number. A module that does not import torch has nothing to set.
    """
    if "torch" not in sys.modules:
        yield
        return
    from worker.engine.threads import torch_threads

    with torch_threads(1):
        yield


@pytest.fixture(scope="module", autouse=True)
def frozen_garbage() -> None:
    """Exempt what earlier tests have imported from garbage collection.

    An engine collects garbage when it has loaded a model, and before each smaller batch that it
    tries when memory ran out.
    """
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class FreshEngine:
    """Return what a new process imports to load a model, and its error for an unknown one.

    Also return the revision of each cached model that it loads, and the score of a pair.
    """

    imported: set[str]
    scores: dict[str, tuple[str, float]]
    error: str


@pytest.fixture(scope="session")
def fresh_engine(tmp_path_factory: pytest.TempPathFactory) -> FreshEngine:
    """Load models without access to the hub; once, because torch is slow to import."""
    home = tmp_path_factory.mktemp("hub")
    names = [hub_cache.NAME, f"{hub_cache.NAME}@v1"]
    hub_cache.write(home / "hub", refs={"main": "b" * 40, "v1": "a" * 40})
    unreachable = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    process = subprocess.run(
        [sys.executable, "-m", "tests.unit.fresh_engine", *names],
        env=os.environ | {"HF_HOME": str(home)} | unreachable,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    told = json.loads(process.stdout.splitlines()[-1])
    scores = {name: tuple(each) for name, each in told["scores"].items()}
    return FreshEngine(set(told["imported"]), scores, told["error"])


@pytest.fixture(scope="session")
def bundled() -> CrossEncoder:
    """Load the bundled model once, for tests that make their own engines."""
    from worker.engine.checkpoint import load_encoder

    return load_encoder("bundled", "cpu")


@pytest.fixture(scope="session")
def bundled_logits() -> Any:
    """Return the logits of the bundled model for `tests.unit.predict_scores.PAIRS`."""
    from tests.unit.predict_scores import logits
    from worker.engine.model_paths import bundled_path

    return logits(str(bundled_path()))
