"""Run every check on two cores at once, and print the time that each took: `make test`.

    python -m tests.run [--coverage]

Tests with services mostly wait, so four processes share them. Meanwhile the checks that keep a core
busy run one after the other. All checks run, whichever of them fail, and each output is printed
whole.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

#: The unit tests run under the machine's own instruction set. Those marked `arithmetic` also run
#: under smaller ones: AVX2, AVX-512 without VNNI (AVX2 again on a machine without AVX-512), and
#: neither.
INSTRUCTION_SETS: dict[str, dict[str, str]] = {
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "AVX-512 without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "neither": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
#: For the tests with services.
PROCESSES = "4"


@dataclass(frozen=True)
class Check:
    """A command, which passes if it ends with exit code 0."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> bool:
        """Run it, print its output and the time it took, and return whether it passed."""
        began = time.monotonic()
        with subprocess.Popen(
            self.command,
            env=os.environ | self.environment,
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
        return passed


def checks(python: Sequence[str]) -> tuple[list[Check], list[Check]]:
    """Return the checks that mostly wait, and those that compute."""
    pytest = (*python, "-m", "pytest", "-q")
    services = ("-n", PROCESSES, "tests/integration", "tests/acceptance", "tests/soak")
    # Importing the other files would take as long as many tests.
    unit = sorted(Path("tests/unit").glob("test_*.py"))
    arithmetic = [str(file) for file in unit if "pytest.mark.arithmetic" in file.read_text()]
    waiting = [Check("tests with services", (*pytest, *services))]
    computing = [
        Check("lint", ("make", "--no-print-directory", "lint")),
        Check("documentation", ("make", "--no-print-directory", "docs")),
        Check("unit tests", (*pytest, "tests/unit")),
        *(
            Check(f"arithmetic, {name}", (*pytest, "-m", "arithmetic", *arithmetic), environment)
            for name, environment in INSTRUCTION_SETS.items()
        ),
    ]
    return waiting, computing


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--coverage", action="store_true", help="measure which lines were run")
    coverage = (sys.executable, "-m", "coverage")
    measured = parser.parse_args().coverage
    if measured:
        subprocess.run((*coverage, "erase"), check=True)
    began = time.monotonic()
    with ThreadPoolExecutor() as lanes:
        python = (*coverage, "run") if measured else (sys.executable,)
        passed = [
            each
            for lane in lanes.map(lambda lane: [check.run() for check in lane], checks(python))
            for each in lane
        ]
    if measured:
        subprocess.run((*coverage, "combine", "--quiet"), check=True)
        subprocess.run((*coverage, "report"), check=True)
    _say(f"{sum(passed)} of {len(passed)} checks passed in {time.monotonic() - began:.0f} s\n")
    return 0 if all(passed) else 1


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
