"""Recognize errors after which a process can no longer use its GPU."""

from __future__ import annotations

import sys

from contract.errors import ScoringError
from worker.engine import memory
from worker.engine.unusable import UnusableModel

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


#: A part of CUDA's message for a GPU that a library was not compiled for.
NO_KERNELS = "no kernel image is available"


class GpuFailed(ScoringError):
    """The GPU failed, and this process cannot use it any more; a new process may."""

    retryable = True


def ends_the_gpu(error: BaseException) -> bool:
    """Return whether the error leaves the process without a working GPU.

    CUDA reports a failed kernel to every later call, so only a new process can go on. Lack of
    memory is not such an error, and neither is a library without code for the GPU.
    """
    if not isinstance(error, Exception) or memory.ran_out(error) or lacks_kernels(error):
        return False
    accelerator_error = getattr(sys.modules.get("torch"), "AcceleratorError", None)
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return any(message in str(error) for message in MESSAGES)


def lacks_kernels(error: BaseException) -> bool:
    """Return whether a library has no code for the GPU. It would fail in any other process too."""
    return NO_KERNELS in str(error)


def without_kernels() -> UnusableModel:
    """Return the reason why no model can be used on a GPU that torch has no code for."""
    version = getattr(sys.modules.get("torch"), "__version__", "")
    return UnusableModel(
        f"torch {version} was built without support for this GPU".replace("  ", " "),
        "Install a build of torch that supports it, or set RERANKQ_DEVICE=cpu",
    )
