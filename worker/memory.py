"""Recognises that memory ran out, whoever says so."""

from __future__ import annotations

import torch

#: What torch's allocator for CPUs says, and oneDNN where it cannot make room for a kernel: both
#: come as plain RuntimeErrors.
MESSAGES = ("DefaultCPUAllocator", "could not create a primitive")


def ran_out(error: BaseException) -> bool:
    """Whether `error` means that there was not enough memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)
    )
