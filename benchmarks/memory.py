"""Memory of processes, as reported by Linux, in MB of 10^6 bytes."""

from __future__ import annotations

from pathlib import Path

KIB = 1024 / 1e6


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, including shared pages (VmRSS)."""
    return _field(f"/proc/{pid}/status", "VmRSS")


def peak_rss_mb(pid: int) -> float:
    """Return the peak of the resident memory of a process (VmHWM)."""
    return _field(f"/proc/{pid}/status", "VmHWM")


def pss_mb(pid: int) -> float:
    """Return the proportional memory: each shared page is divided among the processes that use it.

    The sum over all processes is the memory that they use together.
    """
    return _field(f"/proc/{pid}/smaps_rollup", "Pss")


def children(pid: int) -> list[int]:
    """Return the processes that this process has started, oldest first."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sorted(int(child) for task in tasks for child in (task / "children").read_text().split())


def _field(path: str, name: str) -> float:
    for line in Path(path).read_text().splitlines():
        label, _, value = line.partition(":")
        if label == name:
            return int(value.split()[0]) * KIB
    raise ValueError(f"{path} has no field {name}")
