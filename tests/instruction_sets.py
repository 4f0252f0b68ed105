"""Run the tests marked `arithmetic` under several instruction sets.

    python -m tests.instruction_sets

The libraries choose their kernels when they first compute, not when they are imported. This process
imports them once, because that takes several seconds, and forks a child for each instruction set.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

#: A machine without AVX-512 runs the second set as the first.
INSTRUCTION_SETS: dict[str, dict[str, str]] = {
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "AVX-512 without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "neither": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
SLOW_IMPORTS = ("torch", "sentence_transformers")
#: pytest warns that it cannot rewrite assertions of a plugin (anyio's) that is imported already.
UNREWRITTEN = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
#: Far more than a child takes on a busy machine.
TIMEOUT_S = 600


def main() -> int:
    """Return 0 if all tests passed under each instruction set."""
    # huggingface_hub reads this when it is imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    # Collecting the other files would take as long as many tests.
    unit = sorted(Path("tests/unit").glob("test_*.py"))
    files = [str(file) for file in unit if "pytest.mark.arithmetic" in file.read_text()]
    passed = [_passes(name, files) for name in INSTRUCTION_SETS]
    return 0 if all(passed) else 1


def _passes(name: str, files: list[str]) -> bool:
    child = multiprocessing.get_context("fork").Process(target=_run, args=(name, files))
    child.start()
    child.join(TIMEOUT_S)
    if child.exitcode is None:
        child.kill()
        child.join()
    passed = child.exitcode == 0
    _say(f"    {name}: {'passed' if passed else f'FAILED with exit code {child.exitcode}'}\n")
    return passed


def _run(name: str, files: list[str]) -> None:
    """Run the tests in this process, and end it with pytest's exit code."""
    import torch

    os.environ.update(INSTRUCTION_SETS[name])
    wanted = INSTRUCTION_SETS[name].get("ATEN_CPU_CAPABILITY")
    # A library that computed something while it was imported would have chosen its kernels then.
    if wanted and torch.backends.cpu.get_cpu_capability().lower() != wanted:
        raise RuntimeError(f"torch does not compute with {name}")
    sys.exit(pytest.main(["-q", "-m", "arithmetic", *UNREWRITTEN, *files]))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
