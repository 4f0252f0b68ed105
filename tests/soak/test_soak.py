"""Half a minute of faults; `make soak` runs longer, with real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.jobs import stub_models
from tests.soak.soak import Soak


@pytest.mark.timeout(600)
def test_whatever_happens_every_job_ends_once_and_as_one_model_has_it(tmp_path: Path) -> None:
    happened: list[str] = []

    books = Soak(stub_models(), number=60, seed=7, folder=tmp_path, say=happened.append).run()

    assert books.balanced, "\n".join((*happened, str(books)))
    assert books.faults.total() > 5
    assert books.results["full"] > 25
