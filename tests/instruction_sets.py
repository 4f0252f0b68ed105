"""Run the unit tests, and those of arithmetic under several instruction sets as well.

    python -m tests.instruction_sets

The libraries choose their kernels when they first compute, not when they are imported. This process
imports them once, because that takes several seconds, and forks a child for each run. The
others follow one another while all unit tests run.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from tests.groups import IN_PROCESS

UNIT_TESTS = "tests/unit"
#: Each with the mark of the tests that are run. In single precision, the libraries choose the same
#: kernels for AVX-512 with and without instructions for half precision. A machine without AVX-512
#: runs the second set as the first.
INSTRUCTION_SETS: dict[str, tuple[str, dict[str, str]]] = {
    "AVX2": (
        "arithmetic",
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
    ),
    "AVX-512 without half precision": ("half_precision", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    "neither": (
        "arithmetic",
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    ),
}
SLOW_IMPORTS = ("torch", "sentence_transformers")
#: pytest warns that it cannot rewrite assertions of a plugin (anyio's) that is imported already.
UNREWRITTEN = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
#: Far more than a child takes on a busy machine.
TIMEOUT_S = 900


class Run:
    """Tests in a child of this process with a name and these variables."""

    def __init__(self, name: str, variables: dict[str, str], *arguments: str) -> None:
        self._name = name
        self._output: IO[str] = TemporaryFile("w+")  # noqa: SIM115
        self._child = multiprocessing.get_context("fork").Process(
            target=_run, args=(self._output, variables, arguments)
        )
        self._child.start()

    def passes(self) -> bool:
        """Wait for the end, print the output, and return whether all tests passed."""
        self._child.join(TIMEOUT_S)
        if self._child.exitcode is None:
            self._child.kill()
            self._child.join()
        passed = self._child.exitcode == 0
        with self._output as output:
            output.seek(0)
            said = output.read()
        code = self._child.exitcode
        _say(f"{said}    {self._name}: {'passed' if passed else f'FAILED with exit code {code}'}\n")
        return passed


def main() -> int:
    """Return 0 if all tests passed in each run."""
    # huggingface_hub reads this when it is imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    gc.disable()  # until pytest has imported the tests
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    everything = Run("all unit tests", {}, UNIT_TESTS, IN_PROCESS)
    passed = [
        Run(name, variables, "-m", mark, *_files_with(mark)).passes()
        for name, (mark, variables) in INSTRUCTION_SETS.items()
    ]
    return 0 if all((*passed, everything.passes())) else 1


def _files_with(mark: str) -> list[str]:
    """Return the files that use a mark: collecting the others would take as long as many tests."""
    files = sorted(Path(UNIT_TESTS).glob("test_*.py"))
    return [str(file) for file in files if f"pytest.mark.{mark}" in file.read_text()]


def _run(output: IO[str], variables: dict[str, str], arguments: tuple[str, ...]) -> None:
    """Run the tests in this process, and end it with pytest's exit code."""
    import torch

    for standard in (1, 2):
        os.dup2(output.fileno(), standard)
    os.environ.update(variables)
    wanted = variables.get("ATEN_CPU_CAPABILITY")
    # A library that computed something while it was imported would have chosen its kernels then.
    if wanted and torch.backends.cpu.get_cpu_capability().lower() != wanted:
        raise RuntimeError(f"torch does not compute with {wanted}")
    sys.exit(pytest.main(["-q", *UNREWRITTEN, *arguments]))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
