"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

#: The packages whose versions decide the figures.
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
#: Above this, something else is running, and the figures are not this machine's.
QUIET_LOAD = 0.5


def describe(threads: int) -> dict[str, Any]:
    """The machine: processor, cores this process may use, threads of each way, versions."""
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
    """The machine in a line."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['packages']['torch']},"
        f" {machine['threads']} threads"
    )


def processor() -> str:
    """The processor's name and widest vector unit, as Linux has them."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines() if line]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = facts.get("flags", "").split()
    widest = next((flag for flag in ("avx512f", "avx2") if flag in flags), "")
    vectors = {"avx512f": " (AVX-512)", "avx2": " (AVX2)", "": ""}[widest]
    return facts.get("model name", platform.machine()) + vectors


def memory_gb() -> float:
    """The machine's memory, in GB of 10^9 bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def version(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
