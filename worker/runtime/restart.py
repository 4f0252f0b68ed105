"""Restart a worker after a delay if it exits because of a model, of memory or of a GPU.

    python -m worker.restart celery -A worker worker ...

This is for containers. When an engine restarts a container, it also restarts the start period of
the health check, so a worker that never loads its model would never be shown as unhealthy. Here the
container keeps running, its health check fails, and the last line of the log has the reason. If the
command exits for any other reason, this process exits with the same exit code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from worker.runtime import memory_limit

#: EX_UNAVAILABLE of sysexits.h: a model did not load.
EXIT_NO_MODEL = 69
#: EX_OSERR of sysexits.h: there is too little memory to load the models.
EXIT_NO_MEMORY = 71
#: EX_IOERR of sysexits.h: the GPU of a process failed, and only another process can use it again.
EXIT_GPU_FAILED = 74
#: Exit codes of a worker that is started again.
RESTARTED = (EXIT_NO_MODEL, EXIT_NO_MEMORY, EXIT_GPU_FAILED)
#: Passes the delay to the worker, for the last line of its log.
DELAY_VARIABLE = "RERANKQ_AGAIN_IN_S"

FIRST_DELAY_S = 10
LONGEST_DELAY_S = 300

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


class RestartSupervisor:
    """Runs the command until it succeeds, fails permanently, or is stopped by a signal."""

    def __init__(self, command: Sequence[str], delays_s: Iterable[float]) -> None:
        self._command = command
        self._delays_s = delays_s
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end = threading.Event()

    def run(self) -> int:
        """Return the exit code of the last run, as a shell reports it if a signal ended the run."""
        for number in FORWARDED:
            signal.signal(number, self._forward)
        code = 0
        for delay_s in self._delays_s:
            code = self._run_once(delay_s)
            if code not in RESTARTED or self._asked_to_end.wait(delay_s):
                break
        return code

    def _run_once(self, delay_s: float) -> int:
        kills = memory_limit.oom_kills() or 0
        self._process = subprocess.Popen(  # noqa: S603
            self._command, env=os.environ | {DELAY_VARIABLE: f"{delay_s:g}"}
        )
        if self._asked_to_end.is_set():  # a signal arrived before the process started
            self._process.terminate()
        code = self._process.wait()
        if code == -signal.SIGKILL and (memory_limit.oom_kills() or 0) > kills:
            _report_killed(delay_s)
            return EXIT_NO_MEMORY
        return code if code >= 0 else 128 - code

    def _forward(self, number: int, _: Any) -> None:
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._asked_to_end.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def delays_s() -> Iterator[int]:
    """Yield the delays after the first run, the second, and so on."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, LONGEST_DELAY_S)


def _report_killed(delay_s: float) -> None:
    need_mb = memory_limit.need_bytes(0, 1) / memory_limit.MB
    sys.stderr.write(
        "Worker exited: the kernel killed its main process for lack of memory."
        f" {memory_limit.describe_limit()}; a worker needs about {need_mb:,.0f} MB in addition to"
        " its models. Raise the limit (WORKER_MEMORY with the compose file)."
        f" Restarting in {delay_s:g} s.\n"
    )


def main() -> int:
    """Run the command in the arguments, and return its exit code."""
    return RestartSupervisor(sys.argv[1:], delays_s()).run()
