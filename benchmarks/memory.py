"""Memory of processes, as reported by Linux, in MB of 10^6 bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KIB = 1024 / 1e6


@dataclass(frozen=True)
class Memory:
    """The memory of a process.

    RSS counts shared pages in full, PSS divides them among the processes that share them, and USS
    excludes them.
    """

    rss_mb: float
    pss_mb: float
    uss_mb: float

    def __str__(self) -> str:
        return f"RSS {self.rss_mb:.0f}, PSS {self.pss_mb:.0f}, USS {self.uss_mb:.0f} MB"


def of(pid: int) -> Memory:
    """Return the memory of a process."""
    rollup = f"/proc/{pid}/smaps_rollup"
    uss_mb = _field(rollup, "Private_Clean") + _field(rollup, "Private_Dirty")
    return Memory(_field(rollup, "Rss"), _field(rollup, "Pss"), uss_mb)


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
