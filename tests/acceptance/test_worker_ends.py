"""A worker that cannot load its models ends with a specific exit code, and logs the reason last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.processes import celery, children_of, end, linux_only, wait_until

pytestmark = linux_only

MEMORY_V1 = Path("/sys/fs/cgroup/memory")
MB = 1024 * 1024

#: Longer than it takes to kill it.
LOADS_LONG = "stub:load_s=60"


@pytest.fixture
def group() -> Iterator[Path]:
    """Yield a control group of version 1 with a limit on memory, where this user may make one."""
    made = MEMORY_V1 / f"rerankq-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text(str(400 * MB))
    except OSError:
        pytest.skip("no control group with a limit on memory can be made here")
    yield made
    wait_until(lambda: not (made / "cgroup.procs").read_text(), "all processes in it have ended")
    made.rmdir()


def last_line(log: Path) -> str:
    return log.read_text().splitlines()[-1]


def test_a_limit_too_low_for_the_model_is_told_with_the_need(
    settings: Settings, tmp_path: Path, group: Path
) -> None:
    # Given a group with enough memory for the interpreter and its libraries, but not for a model
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "--concurrency", "2"]
    with log.open("wb") as output:
        done = subprocess.run(
            ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command],
            env=os.environ | environment_of(settings, BUNDLED),
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=90,
            check=False,
        )

    # Then the worker's last line is what was killed, the limit, and the need
    said = last_line(log)
    assert done.returncode == 71, log.read_text()
    assert "exiting with code 71" in said
    assert "the kernel killed child process " in said
    assert "while it was loading 'bundled'" in said
    assert f"The memory limit is 400 MB ({group}/memory.limit_in_bytes)" in said
    assert "need about 797 MB" in said
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("Worker exiting") == 1


def test_children_that_are_killed_while_they_load_are_replaced_but_not_for_ever(
    settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    arguments = ("worker", "--loglevel=INFO", "--concurrency=1", "-n", settings.namespace)
    killed: set[int] = set()

    # When each child is killed as it begins to load
    with celery(*arguments, log=log, environment=environment_of(settings, LOADS_LONG)) as process:

        def over() -> bool:
            if process.poll() is not None:
                return True
            for child in set(children_of(process.pid)) - killed:
                if log.read_text().count("Loading cross-encoder") > len(killed):
                    os.kill(child, signal.SIGKILL)
                    killed.add(child)
            return False

        wait_until(over, "the worker gives up")
        code = end(process)

    # Then three deaths are enough
    assert (code, len(killed)) == (69, 3)
    assert f"3 child processes in a row ended while loading {LOADS_LONG!r}" in last_line(log)
    assert "Traceback" not in log.read_text()
