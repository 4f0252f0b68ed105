"""Count the GPUs of a machine without their driver, which must not be used before a fork."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: Lists the GPUs that a process may use, by number or by id.
VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Children on each GPU. One alone leaves the GPU idle while it reads a job and writes a result: on
#: one H200, two children delivered 18,447 pairs/s through Redis where one delivered 14,735. More
#: than two would share a GPU that two keep busy, and each takes memory for its models.
CHILDREN_PER_GPU = 2


def count(environment: Mapping[str, str], root: Path = Path("/")) -> int:
    """Return the number of GPUs that a process with this environment may use, or 1 if unknown."""
    if VISIBLE in environment:
        return max(1, len(_listed(environment[VISIBLE])))
    described = root / "proc" / "driver" / "nvidia" / "gpus"
    if described.is_dir():
        return max(1, len(list(described.iterdir())))
    devices = (root / "dev").glob("nvidia*")
    return max(1, sum(device.name.removeprefix("nvidia").isdecimal() for device in devices))


def children(device: str, gpus: int, cores: int) -> int:
    """Return the number of children of a worker on a GPU, which need a core each."""
    if device == "mps":
        return 1
    own = gpus if device == "cuda" else 1
    return max(own, min(own * CHILDREN_PER_GPU, cores))


def of_this_machine() -> int:
    """Return the number of GPUs that this process may use."""
    return count(os.environ)


def _listed(value: str) -> list[str]:
    """Return the GPUs in a list. CUDA ignores the first invalid one and those after it."""
    listed: list[str] = []
    for name in (each.strip() for each in value.split(",")):
        if not name or name.startswith("-"):
            break
        listed.append(name)
    return listed
