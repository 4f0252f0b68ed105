"""Memory limits of the control group, out-of-memory kills, and how much memory a worker needs.

This reads Linux control groups, versions 1 and 2; on other systems the limit is unknown. It does
not import torch.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

MB = 1024 * 1024
#: Measured with torch 2.13 for CPU, where each child loads its models. The first is what the main
#: process and its children share, and the second is for each child without its weights. Weights
#: count 1.2 times per child, and once for the file.
SHARED_BYTES = 470 * MB
CHILD_BYTES = 135 * MB
WEIGHTS_IN_CHILD = 1.2
#: Measured where the children share the models. Loading them takes the first, and 3.6 times the
#: weights. Later, all processes share the weights, and a child takes some for its batches.
LOADING_BYTES = 510 * MB
WEIGHTS_WHILE_LOADING = 3.6
SHARED_BYTES_WITH_MODELS = 227 * MB
CHILD_BYTES_WITHOUT_MODELS = 38 * MB
WEIGHTS_IN_CHILD_WITHOUT_MODELS = 0.65
#: Weights are computed in float32 on a CPU, regardless of the precision in the file.
WEIGHT_BYTES = 4


@dataclass(frozen=True)
class Limit:
    """The lowest memory limit of this process, and the file that states it."""

    size_bytes: int
    source: Path

    def __str__(self) -> str:
        return f"{self.size_bytes / MB:,.0f} MB ({self.source})"


def limit(root: Path = Path("/")) -> Limit | None:
    """Return the lowest limit of the control group and those above it; None if there is none."""
    found = [
        Limit(int(text), file)
        for folder in _groups(root)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (file := folder / name).is_file() and (text := file.read_text().strip()).isdigit()
    ]
    # Version 1 represents "no limit" as a number larger than any memory.
    found = [each for each in found if each.size_bytes < _machine_bytes()]
    return min(found, key=lambda each: each.size_bytes, default=None)


def describe_limit(root: Path = Path("/")) -> str:
    """Return a sentence with the memory limit, without its period."""
    if (lowest := limit(root)) is not None:
        return f"The memory limit is {lowest}"
    if (space := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        return f"The limit of address space (ulimit -v) is {space / MB:,.0f} MB"
    return "No memory limit is set"


def oom_kills(root: Path = Path("/")) -> int | None:
    """Return how often the kernel killed a process for lack of memory, or None if unknown."""
    for folder in _groups(root):
        for name in ("memory.events", "memory.oom_control"):
            counted = _count(folder / name)
            if counted is not None:
                return counted
    # The count of the whole machine, for a process without its own control group.
    return _count(root / "proc/vmstat")


def weight_bytes(folder: Path) -> int:
    """Return the size of a model's weights in float32, from the files in its folder; 0 if none."""
    tensors = list(folder.glob("*.safetensors"))
    if tensors:
        return sum(map(_safetensors_bytes, tensors))
    return sum(file.stat().st_size for file in folder.glob("pytorch_model*.bin"))


def need_bytes(weights_bytes: int, children: int) -> int:
    """Return about how much memory a worker needs whose children load the models themselves."""
    child = CHILD_BYTES + WEIGHTS_IN_CHILD * weights_bytes
    return round(SHARED_BYTES + weights_bytes + children * child)


def need_bytes_of_shared_models(weights_bytes: int, children: int) -> int:
    """Return about how much memory a worker needs whose children share the models.

    That is more while they are loaded than later, unless there are many children.
    """
    loading = LOADING_BYTES + WEIGHTS_WHILE_LOADING * weights_bytes
    child = CHILD_BYTES_WITHOUT_MODELS + WEIGHTS_IN_CHILD_WITHOUT_MODELS * weights_bytes
    return round(max(loading, SHARED_BYTES_WITH_MODELS + weights_bytes + children * child))


def _groups(root: Path) -> Iterator[Path]:
    """Yield the control group of this process and those above it, innermost first.

    In a container, the path that /proc names may not exist, because the container's own group is
    the root there.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        group = top / path.lstrip("/")
        yield from (each for each in (group, *group.parents) if each.is_relative_to(top))


def _count(file: Path) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    counts = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _safetensors_bytes(file: Path) -> int:
    """Return the size of the tensors in float32, from the file's header (its length, then JSON)."""
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, size)))
        shapes = (each["shape"] for name, each in header.items() if name != "__metadata__")
        return WEIGHT_BYTES * int(sum(map(prod, shapes)))
    except (ValueError, LookupError, TypeError, AttributeError):  # no valid header
        return size
