"""Queries of a run are grouped into jobs."""

from __future__ import annotations

import pytest

from producer.rescore.options import job_size


@pytest.mark.parametrize(
    ("pairs", "size"),
    [
        pytest.param(0, 100, id="nothing"),
        pytest.param(50, 100, id="less than a job"),
        pytest.param(3_200, 100, id="small jobs"),
        pytest.param(6_400, 200, id="as many jobs, larger ones"),
        pytest.param(32_000, 1_000, id="large jobs"),
        pytest.param(1_000_000, 1_000, id="more of them"),
    ],
)
def test_a_longer_run_has_larger_jobs_up_to_a_limit(pairs: int, size: int) -> None:
    assert job_size(pairs) == size
