"""Assign GPUs to processes."""

from __future__ import annotations

from contract.printable import counted
from worker.engine.unusable import UnusableModel

#: The name of all GPUs of the machine together.
ALL_GPUS = "cuda"


def assigned(device: str, place: int, gpus: int) -> str:
    """Return the device of the process at this place, counted from 0.

    Processes take the GPUs of `cuda` in turn. Any other device is that of all processes.
    """
    if device != ALL_GPUS or gpus < 1:
        return device
    return f"{ALL_GPUS}:{place % gpus}"


def require(device: str) -> None:
    """Raise `UnusableModel` if torch cannot use the device."""
    if not device.startswith("cuda"):
        return
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    _, _, number = device.partition(":")
    if int(number or 0) >= gpus:
        raise UnusableModel(
            f"the device is {device}, and torch {torch.__version__} can use {counted(gpus, 'GPU')}",
            "Set RERANKQ_DEVICE=cpu, or another GPU. If there is one that torch does not find,"
            " check that nvidia-smi lists it, and that torch was installed with CUDA",
        )


def count_gpus() -> int:
    """Return the number of GPUs that this process can use.

    Never call this before a fork: the driver does not work in a child of a process that used it.
    """
    import torch

    return torch.cuda.device_count()
