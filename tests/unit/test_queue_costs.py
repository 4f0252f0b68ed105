"""The benchmark of the queue counts the CPU time of the right process, and of a pair."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks import cpu
from benchmarks.queue_costs import Costs, table
from tests.processes import linux_only


@linux_only
def test_the_time_of_a_process_is_its_cpu_time() -> None:
    before, began = cpu.of_process(os.getpid()), time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert cpu.of_process(os.getpid()) - before == pytest.approx(0.1, abs=0.03)


@linux_only
def test_a_command_counts_its_own_time_and_reports_why_it_failed(tmp_path: Path) -> None:
    environment = dict(os.environ)
    assert 0 < cpu.of_command(["this"], tmp_path / "log", environment) < 5
    with pytest.raises(RuntimeError, match="nothing_of_this_name"):
        cpu.of_command(["nothing_of_this_name"], tmp_path / "log", environment)


def test_the_cost_of_a_pair_is_that_of_the_additional_pairs() -> None:
    small, large = Costs(1.0, 0.5, 0.2, 0.1, 0.0), Costs(3.0, 1.5, 0.4, 0.2, 0.1)
    lines = table((1_000, 101_000), (small, large), 2.5).splitlines()
    assert lines[2] == "| `rerankq rescore` | 20.0 | 29.7 |"
    assert lines[3] == "| the worker's child | 10.0 | 14.9 |"
    assert lines[-1] == "| `RerankClient.result` |  | 2.5 |"
