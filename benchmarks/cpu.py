"""CPU time of processes, as reported by Linux, in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def of_process(pid: int) -> float:
    """Return the CPU time of a running process, with all its threads, without its children."""
    # The name of the process, in parentheses, may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / TICKS_PER_S


def of_command(command: Sequence[str], log: Path, environment: dict[str, str]) -> float:
    """Run a Python module, and return the CPU time of its process.

    Raises `RuntimeError` with its last line of output if it fails.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"{command[0]} failed: {said[-1] if said else process.returncode}")
    return used.ru_utime + used.ru_stime
