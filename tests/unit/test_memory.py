"""A lack of memory is recognized whichever library reports it, and other errors are not."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import redis
import torch
from billiard.exceptions import SoftTimeLimitExceeded

from contract.errors import BadScores
from worker.engine import memory

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

#: More bytes than there are addresses.
TOO_MUCH = 2**50


class Fail(Exception):
    """Like onnxruntime's, which is not a RuntimeError."""


# Provoked errors


@pytest.mark.parametrize(
    "allocate",
    [
        pytest.param(lambda: torch.empty(TOO_MUCH, dtype=torch.uint8), id="torch"),
        pytest.param(lambda: np.empty(TOO_MUCH, dtype=np.uint8), id="numpy"),
        pytest.param(lambda: bytearray(TOO_MUCH), id="python"),
    ],
)
def test_a_real_lack_of_memory_is_recognized(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert memory.ran_out(caught.value)


@linux_only
@pytest.mark.parametrize(
    ("what", "kind"),
    [
        pytest.param("threading.Thread(target=print).start()", "RuntimeError", id="a thread"),
        pytest.param("numpy.zeros(2**28, 'uint8')", "MemoryError", id="an array"),
        pytest.param("bytearray(2**28)", "MemoryError", id="bytes"),
    ],
)
def test_a_process_at_its_limit_says_what_is_recognized(what: str, kind: str) -> None:
    # Given a process that may take nothing more
    code = f"""
import os, resource, threading
import numpy
taken = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**20, taken + 2**20))
try:
    {what}
except Exception as error:
    print(type(error).__name__, isinstance(error, MemoryError), error, sep=";")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    # When it needs more, then it reports this in a way that is recognized
    name, is_memory_error, message = run.stdout.rstrip("\n").split(";", 2)
    assert name.endswith(kind)  # numpy raises its own kind, if there is room for it
    error = MemoryError(message) if is_memory_error == "True" else RuntimeError(message)
    assert memory.ran_out(error)


# Errors as libraries word them


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.cuda.OutOfMemoryError("in words that nobody has seen yet"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate"
            " memory: you tried to allocate 1125899906842624 bytes. Error code 12"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:75] . not enough memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA driver error: device not ready"),
        RuntimeError("!handles_.at(i) INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GiB, other allocations: 1 G)"),
        RuntimeError("Invalid buffer size: 14.90 GB"),
        Fail(
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node."
            " BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size"
            " 1610612736"
        ),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:30]}",
)
def test_every_way_to_say_so_is_recognized(error: Exception) -> None:
    assert memory.ran_out(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the query is empty"),
        KeyError("memory"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        TypeError("TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, str]]"),
        BadScores("3 scores for 4 pairs"),
        OSError(28, "No space left on device"),
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        SoftTimeLimitExceeded(600),
        SystemExit("CUDA out of memory"),
        KeyboardInterrupt("std::bad_alloc"),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:30]}",
)
def test_nothing_else_is_taken_for_it(error: BaseException) -> None:
    assert not memory.ran_out(error)


# Returning memory


class Tensor:
    """Imitates a batch's memory."""


def test_an_error_that_is_let_go_holds_nothing_of_what_was_being_done() -> None:
    held: list[weakref.ref[Tensor]] = []

    def layer() -> None:
        activations = Tensor()
        held.append(weakref.ref(activations))
        raise MemoryError("no room")

    def model() -> None:
        states = Tensor()
        held.append(weakref.ref(states))
        layer()

    # Given an error whose traceback leads to what a model had in its hands
    with pytest.raises(MemoryError) as caught:
        model()
    error = caught.value
    del caught
    assert [each() is None for each in held] == [False, False]
    # When it is let go
    memory.release_frames(error)
    # Then it is gone, and the message of the error is unchanged
    assert [each() is None for each in held] == [True, True]
    assert str(error) == "no room"


@linux_only
def test_what_was_freed_goes_back_to_the_system() -> None:
    # Given 128 MiB in pieces that the C library keeps when they are freed
    pieces = [bytearray(64 * 1024) for _ in range(2_000)]
    kept = pieces[::50]
    del pieces
    before = resident()
    # When memory is given back, then nearly all of it is
    memory.release_unused()
    assert before - resident() > 64 * 2**20
    assert len(kept) == 40


def resident() -> int:
    """Return the bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
