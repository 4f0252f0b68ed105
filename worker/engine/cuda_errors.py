"""Recognize errors after which a process can no longer use its GPU."""

from __future__ import annotations

import sys

from contract.errors import ScoringError
from worker.engine import memory

#: Parts of messages of CUDA, and of libraries on it, after which every later call fails too.
MESSAGES = (
    "CUDA error:",
    "CUDA driver error:",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "uncorrectable ECC",
    "cudaErrorECCUncorrectable",
    "misaligned address",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
)


class GpuFailed(ScoringError):
    """The GPU failed, and this process cannot use it any more; a new process may."""

    retryable = True


def ends_the_gpu(error: BaseException) -> bool:
    """Return whether the error leaves the process without a working GPU.

    CUDA reports a failed kernel to every later call, so only a new process can go on. Lack of
    memory is not such an error.
    """
    if not isinstance(error, Exception) or memory.ran_out(error):
        return False
    accelerator_error = getattr(sys.modules.get("torch"), "AcceleratorError", None)
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return any(message in str(error) for message in MESSAGES)
