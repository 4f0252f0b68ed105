"""A worker as a process, and ways to wait until it works."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from contract.settings import Settings
from producer.client import preparing
from tests.ledger import Ledger, false_while_redis_is_away
from tests.processes import PATIENCE_S, Process, celery, children_of, wait_until

#: Allocations of this size are requested from the system and returned to it one by one. A limit
#: takes effect at once, because glibc keeps no reserve of them that would hide it.
ALL_FROM_THE_SYSTEM = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**20)}
#: Settings of workers that wait neither for dead processes nor for measurements.
LOSING_NO_TIME = {
    "RERANKQ_THREADS": "1",
    "RERANKQ_LEASE_S": "3",
    "RERANKQ_SWEEP_EVERY_S": "1",
    "RERANKQ_RESEND_AFTER_S": "3",
    "RERANKQ_MAX_ATTEMPTS": "3",
}


class Worker:
    """Start `celery -A worker worker` as a process; `environment` holds its settings."""

    def __init__(
        self, settings: Settings, folder: Path, environment: dict[str, str], concurrency: int = 2
    ) -> None:
        self.name = f"worker-{uuid.uuid4().hex[:6]}"
        self.log = folder / f"{self.name}.log"
        self._arguments = ("worker", "--loglevel", "INFO", "--concurrency", str(concurrency))
        self._environment = {
            "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
            "RERANKQ_NAMESPACE": settings.namespace,
            **environment,
        }
        self._open = ExitStack()
        self.process: Process

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def children(self) -> set[int]:
        """Return the ids of its child processes."""
        return set(children_of(self.process.pid))

    def kill(self) -> None:
        """Kill its main process."""
        self.process.kill()
        self.process.wait()

    def ask_to_end(self) -> None:
        self.process.terminate()

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Wait for the process to end; return its exit code."""
        return self.process.wait(within_s)

    def __enter__(self) -> Self:
        # There is no need to wait for other workers at the start: there are none, or they do not
        # matter.
        arguments = (*self._arguments, "--without-mingle", "--without-gossip", "-n", self.name)
        context = celery(*arguments, log=self.log, environment=self._environment)
        self.process = self._open.enter_context(context)
        return self

    def __exit__(self, *_: object) -> None:
        # Kills all children as well, at once. Another test covers how a worker ends on request.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._open.close()


def await_workers(ledger: Ledger, *workers: Worker) -> None:
    """Return once all workers answer; fail if one has ended instead."""

    def all_answer() -> bool:
        for worker in workers:
            assert worker.alive, worker.log.read_text()
        return len(ledger.client.workers(1.0, at_most=len(workers))) == len(workers)

    wait_until(false_while_redis_is_away(all_answer), "the workers answer")


def await_children(ledger: Ledger, worker: Worker, documents: Iterable[preparing.Document]) -> None:
    """Return once each child has had a job and therefore has loaded its models.

    The documents must take a while to score, so that no child takes two jobs.
    """
    documents = list(documents)
    seen: set[int] = set()
    while not worker.children <= seen:
        seen.add(ledger.under_way(ledger.submit(documents))[1])
    ledger.balance()
