"""A worker that lacked a model or memory is restarted; any other end is final."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.processes import children_of, wait_until
from worker.runtime import restart

ROOT = Path(__file__).parents[2]


def supervise(delays: str, runs: Path, *codes: str) -> subprocess.Popen[bytes]:
    """Start a supervisor of a command whose runs end with these codes."""
    module = (sys.executable, "-m")
    command = (*module, "tests.unit.end_with_codes", str(runs), *codes)
    return subprocess.Popen([*module, "tests.unit.supervise", delays, *command], cwd=ROOT)


@pytest.mark.parametrize("code", ["69", "71"])
def test_no_model_and_no_memory_are_tried_again(tmp_path: Path, code: str) -> None:
    process = supervise("0.01,0.02,0.03", tmp_path / "runs", code, code, "0")

    assert process.wait(30) == 0
    # And each run gets the pause that would follow in its environment
    assert (tmp_path / "runs").read_text().split() == ["0.01", "0.02", "0.03"]


@pytest.mark.parametrize("code", ["0", "1", "78"])
def test_any_other_end_is_the_end(tmp_path: Path, code: str) -> None:
    process = supervise("0.01,0.02", tmp_path / "runs", code)

    assert process.wait(30) == int(code)
    assert len((tmp_path / "runs").read_text().split()) == 1


def test_a_signal_reaches_the_command_and_its_death_is_told_as_a_shell_does(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = supervise("0.01,0.02", runs, "wait")
    wait_until(lambda: runs.exists() and runs.read_text() != "", "it runs")

    process.terminate()

    assert process.wait(30) == 128 + signal.SIGTERM


def test_who_is_told_to_end_does_so_also_in_a_pause(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = supervise("600", runs, "69")
    wait_until(lambda: runs.exists() and runs.read_text() != "", "it ran")
    wait_until(lambda: not children_of(process.pid), "it pauses")

    process.terminate()

    assert process.wait(30) == 69


def test_a_killed_command_is_not_started_again_if_nobody_lacked_memory(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = supervise("0.01,0.02", runs, "wait")
    wait_until(lambda: runs.exists() and runs.read_text() != "", "it runs")
    (child,) = children_of(process.pid)

    os.kill(child, signal.SIGKILL)

    assert process.wait(30) == 128 + signal.SIGKILL


def test_delays_grow_and_are_bounded() -> None:
    assert list(islice(restart.delays_s(), 8)) == [10, 20, 40, 80, 160, 300, 300, 300]
