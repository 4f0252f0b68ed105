"""Recognises that memory ran out, whoever says so."""

from __future__ import annotations

import torch


def ran_out(error: BaseException) -> bool:
    """Whether `error` means that there was not enough memory."""
    # torch raises a plain RuntimeError where its CPU allocator fails.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
