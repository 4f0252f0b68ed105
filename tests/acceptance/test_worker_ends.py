"""A worker that cannot load its models ends with a specific exit code, and logs the reason last."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.processes import PATIENCE_S, celery, children_of, end, linux_only, wait_until

pytestmark = linux_only

MEMORY_V1 = Path("/sys/fs/cgroup/memory")
MB = 1024 * 1024

#: More than a worker's page tables and open files need, and less than a child needs for a model.
SPARE_BYTES = 64 * MB

#: Longer than it takes to kill it.
LOADS_LONG = "stub:load_s=60"
#: Longer than it takes to set a limit.
LOADS_SLOWLY = "stub:load_s=3"


@pytest.fixture
def group() -> Iterator[Path]:
    """Yield a control group of version 1 that can limit memory, where this user may make one."""
    made = MEMORY_V1 / f"rerankq-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text("-1")
    except OSError:
        pytest.skip("no control group with a limit on memory can be made here")
    yield made
    wait_until(lambda: not (made / "cgroup.procs").read_text(), "all processes in it have ended")
    made.rmdir()


def bytes_in_use(group: Path) -> int:
    """Return how much memory the group's processes have, without files that can be read again."""
    counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(counts["total_rss"])


def last_line(log: Path) -> str:
    return log.read_text().splitlines()[-1]


def test_a_limit_too_low_for_the_model_is_told_with_the_need(
    settings: Settings, tmp_path: Path, group: Path
) -> None:
    # Given a worker that has imported its libraries, and whose child is about to load a model. With
    # two, the kernel could kill main while the second takes the memory that the first had.
    log = tmp_path / "worker.log"
    arguments = ("worker", "--loglevel=INFO", "--concurrency=1", "-n", settings.namespace)
    models = {"CROSS_ENCODER_MODEL": LOADS_SLOWLY, "RERANKQ_DOWNGRADE_MODEL": BUNDLED}
    environment = environment_of(settings) | models
    with celery(*arguments, log=log, environment=environment, forked=False) as process:
        (group / "cgroup.procs").write_text(str(process.pid))
        wait_until(
            lambda: process.poll() is not None or "Loading cross-encoder" in log.read_text(),
            "a child loads",
        )

        # When its group gets a limit that leaves too little memory for that
        limit = bytes_in_use(group) + SPARE_BYTES
        (group / "memory.limit_in_bytes").write_text(str(limit))
        code = process.wait(PATIENCE_S)

    # Then the worker's last line is what was killed, the limit, and the need
    said = last_line(log)
    assert code == 71, log.read_text()
    assert "exiting with code 71" in said
    assert "the kernel killed child process " in said
    assert f"while it was loading {LOADS_SLOWLY!r} and {BUNDLED!r}" in said
    assert f"The memory limit is {limit / MB:,.0f} MB ({group}/memory.limit_in_bytes)" in said
    assert "need about 642 MB" in said
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
