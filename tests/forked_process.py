"""Processes that are forked from a server, which saves the CPU time of their imports."""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests import fork_server

#: Variables that are read when a process starts or imports a library, not when it is forked.
READ_AT_START = (
    *("PYTHON", "LD_", "MALLOC_", "TZ", "LANG", "LC_", "COVERAGE_", "CELERY_CUSTOM_"),
    *("OMP_", "OPENBLAS_", "MKL_", "ONEDNN_", "ATEN_", "HF_", "TRANSFORMERS_"),
)
PR_SET_CHILD_SUBREAPER = 36

#: A file, its descriptor, or `subprocess.DEVNULL`.
File = IO[Any] | int


class ForkedProcess:
    """A child of this process, with the methods of `subprocess.Popen`."""

    def __init__(self, pid: int, arguments: list[str]) -> None:
        self.pid = pid
        self.args = arguments
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the process has ended; raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        pause_s = 0.001
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    files: tuple[File, File, File],
    folder: Path | None = None,
    libraries: tuple[str, ...] = (),
) -> ForkedProcess:
    """Run a module in a new process and session, with these three standard files.

    The process ends with this one, even if this one is killed. Its server has imported the
    `libraries`. A server is started for other libraries and for other variables `READ_AT_START`,
    which saves CPU time if there is a second process like this.
    """
    request = {
        "module": module,
        "arguments": arguments,
        "environment": dict(environment),
        "folder": str(folder or Path.cwd()),
        "parent": os.getpid(),
    }
    with _ONE_AT_A_TIME, _adopting(), Path(os.devnull).open() as nothing:
        server = _server(libraries, frozenset(_read_at_start(environment).items()))
        descriptors = [_descriptor(each, nothing) for each in files]
        try:
            socket.send_fds(server, [json.dumps(request).encode()], descriptors)
            answer = server.recv(32)
        except BaseException:  # such as a test's timeout: the answer would be taken for the next
            _server.cache_clear()
            raise
    assert answer, "the fork server has ended"
    return ForkedProcess(int(answer), [module, *arguments])


_ONE_AT_A_TIME = threading.Lock()


@functools.cache
def _server(libraries: tuple[str, ...], variables: frozenset[tuple[str, str]]) -> socket.socket:
    """Start a server once; it ends when this process closes its connection, or ends itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", fork_server.__name__, str(theirs.fileno()), *libraries],
            cwd=Path(__file__).parents[1],
            env=_others(os.environ) | dict(variables),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait(30)

    atexit.register(end)
    return ours


@contextmanager
def _adopting() -> Iterator[None]:
    """Make this process the parent of processes below it whose own parents end."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def _descriptor(file: File, nothing: IO[Any]) -> int:
    if isinstance(file, int):
        return nothing.fileno() if file == subprocess.DEVNULL else file
    return file.fileno()


def _others(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: each for name, each in variables.items() if not name.startswith(READ_AT_START)}


def _read_at_start(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: each for name, each in variables.items() if name.startswith(READ_AT_START)}
