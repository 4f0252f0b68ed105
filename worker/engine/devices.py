"""Assign GPUs to processes."""

from __future__ import annotations

#: The name of all GPUs of the machine together.
ALL_GPUS = "cuda"


def assigned(device: str, place: int, gpus: int) -> str:
    """Return the device of the process at this place, counted from 0.

    Processes take the GPUs of `cuda` in turn. Any other device is that of all processes.
    """
    if device != ALL_GPUS or gpus < 1:
        return device
    return f"{ALL_GPUS}:{place % gpus}"


def count_gpus() -> int:
    """Return the number of GPUs that this process can use.

    Never call this before a fork: the driver does not work in a child of a process that used it.
    """
    import torch

    return torch.cuda.device_count()
