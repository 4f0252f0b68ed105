"""Describe the machine that produced the figures."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

#: The packages whose versions affect the figures.
PACKAGES = (
    "torch",
    "sentence-transformers",
    "transformers",
    "tokenizers",
    "fastembed",
    "FlashRank",
    "rerankers",
    "onnxruntime",
    "openvino",
    "nncf",
)
#: A higher load average means that another program is running and distorts the figures.
QUIET_LOAD = 0.5


def describe(threads: int) -> dict[str, Any]:
    """Return the processor, the cores this process may use, threads per way, and versions."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "memory_gb": round(memory_gb(), 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "packages": {name: version(name) for name in PACKAGES},
    }


def title(machine: dict[str, Any]) -> str:
    """Return a description of the machine in one line."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['packages']['torch']},"
        f" {machine['threads']} threads"
    )


def processor() -> str:
    """Return the processor's name and widest vector unit, as reported by Linux."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines() if line]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = facts.get("flags", "").split()
    widest = next((flag for flag in ("avx512f", "avx2") if flag in flags), "")
    vectors = {"avx512f": " (AVX-512)", "avx2": " (AVX2)", "": ""}[widest]
    return facts.get("model name", platform.machine()) + vectors


def waited_s() -> float:
    """Return how long this thread has waited for a processor; 0 where only Linux knows it."""
    path = Path("/proc/thread-self/schedstat")
    return int(path.read_text().split()[1]) / 1e9 if path.exists() else 0.0


def memory_gb() -> float:
    """Return the machine's memory, in GB of 10^9 bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def version(package: str) -> str | None:
    """Return the installed version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
