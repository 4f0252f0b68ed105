"""What tests of models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.engine.threads import torch_threads


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """What is this small is slower with two."""
    with torch_threads(1):
        yield
