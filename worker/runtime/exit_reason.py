"""The reason why a worker exits: decided in a child, logged by the main process as its last line.

A child that cannot load its model reports that itself. One that is killed while loading cannot. The
child that replaces it in the pool detects the kill from what it left in shared memory.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from contract.errors import OutOfMemory, RerankError
from contract.models import is_stub
from contract.printable import counted
from worker.engine import model_paths
from worker.engine.cuda_errors import GpuFailed
from worker.engine.unusable import UnusableModel
from worker.runtime import memory_limit, restart
from worker.runtime.memory_limit import MB

logger = logging.getLogger(__name__)

#: Maximum number of consecutive children that may end while loading, for a reason other than
#: memory. More than one, because an operator may have killed them.
MAX_DEATHS = 3

#: Names the library in messages about the memory of a GPU.
GPU_MEMORY = re.compile("CUDA|CUBLAS|CUDNN|HIP out|MPS backend")
GPU_ADVICE = (
    "This is the memory of the GPU, which all processes on it share: nvidia-smi lists them. Each"
    " child of a worker has its own models there. Start fewer children (--concurrency or"
    " WORKER_CONCURRENCY), set RERANKQ_DEVICE to another GPU (cuda:1), or use a smaller model"
)


@dataclass(frozen=True)
class ModelLoading:
    """The models that each of a worker's processes has, and whether they share them."""

    models: Sequence[str]
    processes: int
    shared: bool


class ExitReason:
    """Decides why the worker exits. The main process and forked children share its state."""

    def __init__(self) -> None:
        #: One byte for the exit code, followed by the reason.
        self._verdict = mmap.mmap(-1, mmap.PAGESIZE)
        #: Whether this process made the decision.
        self._is_own = False
        #: By place in the pool: the process that started to load its models, and the one that has
        #: loaded.
        self._loading_pids = _shared_numbers()
        self._loaded_pids = _shared_numbers()
        #: By place in the pool: out-of-memory kills before the process started to load.
        self._oom_kills = _shared_numbers()
        #: Children that ended while loading, since a child last loaded successfully.
        self._deaths = _shared_numbers()

    def child_starts_loading(self, place: int, loading: ModelLoading) -> None:
        """Record that this process loads its models, and check why its predecessor ended."""
        before = self._loading_pids[place]
        if before and before != self._loaded_pids[place]:
            self._judge_predecessor(before, self._oom_kills[place], loading)
        self._loading_pids[place] = os.getpid()
        self._oom_kills[place] = memory_limit.oom_kills() or 0

    def child_has_loaded(self, place: int) -> None:
        """Record that this process has loaded its models."""
        self._loaded_pids[place] = os.getpid()
        self._deaths[0] = 0

    def loaded_pids(self) -> set[int]:
        """Return the ids of the processes that have loaded models; some may have ended since."""
        return set(self._loaded_pids)

    def loading_failed(self, error: RerankError, loading: ModelLoading) -> None:
        """Make the worker exit because its models did not load."""
        if isinstance(error, OutOfMemory):
            advice = GPU_ADVICE if GPU_MEMORY.search(str(error)) else _memory_advice(loading)
            self.decide(restart.EXIT_NO_MEMORY, f"{error}. {advice}")
        elif isinstance(error, GpuFailed):
            self.decide(restart.EXIT_GPU_FAILED, str(error))
        else:
            self.decide(restart.EXIT_NO_MODEL, str(error))

    def decide(self, code: int, reason: str) -> None:
        """Make the worker exit with this exit code. Only the first reason counts."""
        if not self._verdict[0]:
            self._is_own = True
            text = reason.encode()[: len(self._verdict) - 2]
            self._verdict[1 : 1 + len(text)] = text
            self._verdict[0] = code

    def report(self, worker: Any) -> None:
        """If an exit was decided, log the reason and set the worker's exit code."""
        code = self._verdict[0]
        if not code:
            return
        worker.exitcode = code
        reason = self._verdict[1:].rstrip(b"\0").decode(errors="ignore")
        delay_s = os.environ.get(restart.DELAY_VARIABLE)
        logger.critical(
            "Worker exiting with code %d: %s.%s",
            code,
            reason.removesuffix("."),
            f" Restarting in {delay_s} s." if delay_s else "",
        )

    def end_worker(self, main_pid: int) -> None:
        """If an exit was decided, end this process and make the main process stop."""
        code = self._verdict[0]
        if not code:
            return
        if os.getpid() == main_pid:  # a pool without children
            raise SystemExit(code)
        if self._is_own:
            os.kill(main_pid, signal.SIGTERM)
        os._exit(code)

    def _judge_predecessor(self, pid: int, kills_before: int, loading: ModelLoading) -> None:
        names = " and ".join(map(repr, loading.models))
        if (memory_limit.oom_kills() or 0) > kills_before:
            self.decide(
                restart.EXIT_NO_MEMORY,
                f"the kernel killed child process {pid} for lack of memory while it was loading"
                f" {names}. {_memory_advice(loading)}",
            )
        self._deaths[0] += 1
        if self._deaths[0] >= MAX_DEATHS:
            self.decide(
                restart.EXIT_NO_MODEL,
                f"{MAX_DEATHS} child processes in a row ended while loading {names}, most recently"
                f" process {pid}. The lines above with 'exited with' name the signals",
            )


def _shared_numbers() -> memoryview:
    """Return integers that a process and its forks share."""
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")


def _memory_advice(loading: ModelLoading) -> str:
    """Return a text with the memory limit, the memory needed, and the fix."""
    weights = sum(_weight_bytes(model) for model in loading.models)
    estimate = (
        memory_limit.need_bytes_of_shared_models if loading.shared else memory_limit.need_bytes
    )
    need = estimate(weights, loading.processes)
    children = counted(loading.processes, "child", "children")
    return (
        f"{memory_limit.describe_limit()}; {children} with models of {weights / MB:,.0f} MB would"
        f" need about {need / MB:,.0f} MB, or more for long documents. Raise the limit"
        " (WORKER_MEMORY with the compose file), start fewer children (--concurrency or"
        " WORKER_CONCURRENCY), or use a smaller model"
    )


def _weight_bytes(model: str) -> int:
    if is_stub(model):
        return 0
    with suppress(OSError, UnusableModel):
        if folder := model_paths.locate(model).folder():
            return memory_limit.weight_bytes(folder)
    return 0
