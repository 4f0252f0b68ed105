"""A process that has imported what our processes import, and forks them.

    python -m tests.fork_server DESCRIPTOR [LIBRARY ...]

Most of the CPU time of a worker, of Flower or of a command line that does little is that of its
imports. A fork saves it, and differs from a new process in nothing else: the server has one thread,
computes nothing, and reads no settings. `tests.forked_process` sends the requests.

Instead of our own modules, a server can import further libraries, such as torch.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
import time
from typing import Any

#: Among them what Celery and Flower import only when they run.
MODULES = (
    *("billiard.heap", "billiard.popen_fork", "billiard.sharedctypes", "billiard.synchronize"),
    *("celery.app.control", "celery.app.events", "celery.app.log", "celery.apps.worker"),
    *("celery.backends.redis", "celery.bin.celery", "celery.concurrency.thread"),
    *("celery.fixups.django", "celery.worker.autoscale", "celery.worker.components"),
    *("celery.worker.consumer", "celery.worker.consumer.delayed_delivery"),
    *("celery.worker.strategy", "flower.command", "kombu.transport.redis"),
)
OUR_MODULES = ("producer.client.blocking", "worker.engine.loader", "worker.engine.stub")
#: All modules of these packages.
OUR_PACKAGES = ("producer.cli", "worker.jobs", "worker.monitoring", "worker.runtime")

#: Larger than any request.
REQUEST_BYTES = 2**20
#: Options of `prctl`.
PR_SET_PDEATHSIG = 1


def main(connection: socket.socket, libraries: list[str]) -> None:
    """Serve requests until the tests end; return in a forked process, too."""
    gc.disable()  # which saves a sixth of the time
    for name in (*MODULES, *(libraries or _our_modules())):
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lack the other threads"
    gc.collect()
    gc.freeze()
    gc.enable()
    while True:
        message, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 3)
        if not message:
            return
        request = json.loads(message)
        if _forked(connection, request["parent"]):
            connection.close()
            _become(request, files)
            return
        for file in files:
            os.close(file)


def _our_modules() -> list[str]:
    return [*OUR_MODULES] + [
        f"{package}.{module.name}"
        for package in OUR_PACKAGES
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    ]


def _forked(connection: socket.socket, parent: int) -> bool:
    """Fork a process whose parent is the process of the tests; return True in the new one.

    The kernel makes it a child of the tests when the process between them has ended.
    """
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return False
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.0005)
    # The kernel ends this process with the tests, for whatever reason they end.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    connection.send(str(os.getpid()).encode())
    return True


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Run a module as `python -m` would, and exit as it does."""
    os.setsid()
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    for standard, name in enumerate(("stdin", "stdout", "stderr")):
        _open_standard(standard, name)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    sys.argv[1:] = request["arguments"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _open_standard(descriptor: int, name: str) -> None:
    """Open a standard stream as Python does at its start: a terminal differs from a file."""
    before = getattr(sys, name)
    by_line = name == "stderr" or os.isatty(descriptor)
    stream = open(  # noqa: SIM115
        descriptor,
        "r" if name == "stdin" else "w",
        buffering=1 if by_line else -1,
        encoding=before.encoding,
        errors=before.errors,
        newline="\n",
        closefd=False,
    )
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
