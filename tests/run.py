"""Run every check on two cores at once, and print the time that each took: `make test`.

    python -m tests.run [--coverage]

Three checks run at a time, so that both cores have work until the end. The longest is the tests
with services, in five processes because they mostly wait. All checks run, whichever of them fail,
and each output is printed whole. At the end, the failed tests are listed, and the folder with their
files and logs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from tempfile import mkdtemp

from tests.groups import IN_PROCESS

#: Containers often set this. It would make each of several hundred processes compile the project's
#: modules again, and pytest rewrite all tests.
WITHOUT_BYTECODE = "PYTHONDONTWRITEBYTECODE"
#: pytest makes the folders of tests in this one.
TEST_FOLDER = "PYTEST_DEBUG_TEMPROOT"
#: The lines of pytest's summary that name a test.
FAILURES = ("FAILED tests/", "ERROR tests/")
#: How many checks run at the same time.
LANES = 3
#: How many processes run the tests with services.
PROCESSES = "5"


@dataclass(frozen=True)
class Check:
    """A command that passes if it ends with exit code 0."""

    name: str
    command: Sequence[str]

    def run(self, folder: str) -> list[str]:
        """Run it, print its output and the time it took, and return what failed.

        The tests write their files to the folder.
        """
        began = time.monotonic()
        with subprocess.Popen(
            self.command,
            env=_environment() | {TEST_FOLDER: folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said = process.stdout.read() if process.stdout else ""
            # Unlike `Popen.wait`, this returns the CPU time of the process and its children.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        passed = process.returncode == 0
        took = f"{time.monotonic() - began:.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s of CPU)"
        _say(f"{said}--- {self.name}: {'passed' if passed else 'FAILED'} in {took}\n")
        if passed:
            return []
        return [line for line in said.splitlines() if line.startswith(FAILURES)] or [self.name]


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name != WITHOUT_BYTECODE}


def checks(python: Sequence[str]) -> list[Check]:
    """Return all checks, the longest first."""
    pytest = (*python, "-m", "pytest", "-q")
    folders = ("tests/integration", "tests/acceptance", "tests/soak")
    services = ("-n", PROCESSES, f"--ignore={IN_PROCESS}", *folders)
    return [
        Check("tests with services", (*pytest, *services)),
        Check("unit tests", (*python, "-m", "tests.instruction_sets")),
        Check("lint", ("make", "--no-print-directory", "lint")),
        Check("documentation", ("make", "--no-print-directory", "docs")),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--coverage", action="store_true", help="measure which lines were run")
    coverage = (sys.executable, "-m", "coverage")
    measured = parser.parse_args().coverage
    if measured:
        subprocess.run((*coverage, "erase"), check=True)
    began = time.monotonic()
    python = (*coverage, "run") if measured else (sys.executable,)
    folder = mkdtemp(prefix="rq-")
    run = checks(python)
    with ThreadPoolExecutor(LANES) as lanes:
        failed = list(lanes.map(lambda check: check.run(folder), run))
    if measured:
        subprocess.run((*coverage, "combine", "--quiet"), check=True)
        subprocess.run((*coverage, "report"), check=True)
    passed = [not each for each in failed]
    if all(passed):
        shutil.rmtree(folder)
    else:
        _say("\n".join([*chain(*failed), f"The files and logs of the tests are in {folder}.", ""]))
    _say(f"{sum(passed)} of {len(passed)} checks passed in {time.monotonic() - began:.0f} s\n")
    return 0 if all(passed) else 1


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
