"""Recognize out-of-memory errors of all libraries, and release unused memory."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
import traceback
from typing import Any

#: The out-of-memory messages of each library. Only torch's CUDA allocator has its own error
#: class, and Python and numpy raise `MemoryError`. All others raise RuntimeError or Exception.
MESSAGES = (
    "DefaultCPUAllocator",  # torch on a CPU
    "not enough memory",  # ... in other builds
    "could not create a primitive",  # oneDNN, with no memory for a kernel
    "could not create a memory",
    "std::bad_alloc",
    "can't start new thread",  # no room for a stack
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",  # where its allocator maps pages itself
    "CUDA driver error: device not ready",  # seen when memory is short, as is the next
    "!handles_.at(i) INTERNAL ASSERT",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "HIP out of memory",
    "MPS backend out of memory",
    "Invalid buffer size",  # MPS, where one tensor is too large
    "Failed to allocate memory",  # onnxruntime, whose error is not a RuntimeError
)


def ran_out(error: BaseException) -> bool:
    """Return whether `error` means that there was not enough memory."""
    torch = _torch()
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, Exception) and any(message in str(error) for message in MESSAGES)


def release_frames(error: BaseException) -> None:
    """Drop the references that the frames of a traceback hold to the tensors of a batch."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None


def require(size_bytes: int) -> None:
    """Raise `MemoryError` if the system cannot provide that much memory now."""
    try:
        mmap.mmap(-1, size_bytes).close()
    except OSError:
        release_unused()  # what a larger batch has used may still belong to this process
        try:
            mmap.mmap(-1, size_bytes).close()
        except OSError as error:
            raise MemoryError(f"cannot allocate {size_bytes:,} bytes: {error}") from error


def release_unused() -> None:
    """Return unused memory to the system and the device."""
    gc.collect()
    # glibc keeps freed memory in an arena for each thread.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    torch = _torch()
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch and torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _torch() -> Any:
    """Return torch if it has been imported, so that an engine without torch does not import it."""
    return sys.modules.get("torch")
