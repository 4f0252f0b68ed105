"""The faults of a service, and the two workers that they hit."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from contract.names import Keys
from tests.embedded_redis import FaultyRedis
from tests.processes import Process, children_of, start
from tests.soak.clocks import Clock


class Worker:
    """A worker that is restarted whenever it has ended, as a supervisor would do."""

    def __init__(
        self, name: str, environment: Mapping[str, str], folder: Path, clock: Clock | None = None
    ) -> None:
        self.name = name
        #: Its own clock, where clocks can be moved.
        self.clock = clock
        self._environment = {**environment, **(clock.environment if clock else {})}
        self._log = (folder / f"{name}.log").open("wb")
        self.process = self._start()
        self.starts = 1

    def _start(self) -> Process:
        arguments = ("-A", "worker", "worker", "--loglevel", "INFO", "--concurrency", "1")
        name = ("-n", f"{self.name}@soak", "--without-mingle")
        return start("celery", *arguments, *name, environment=self._environment, log=self._log)

    def see_to_it(self) -> None:
        """Restart it if it has ended."""
        if self.process.poll() is not None:
            self.process = self._start()
            self.starts += 1

    @property
    def children(self) -> list[int]:
        """Return the pool's processes; none while the worker starts, or after its end."""
        with suppress(OSError):
            return children_of(self.process.pid)
        return []

    def end(self) -> None:
        """Ask it to end after its job."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._log.close()


class Faults:
    """All faults, and how often each one occurs relative to the others."""

    def __init__(
        self, server: FaultyRedis, workers: list[Worker], keys: Keys, rng: random.Random
    ) -> None:
        self._server = server
        self._workers = workers
        self._keys = keys
        self._rng = rng
        #: The ids of jobs that their callers have forgotten.
        self.forgotten: Collection[str] = ()
        self._seen: list[tuple[str, bytes]] = []
        self.weights: dict[Callable[[], object], int] = {
            self.kill_a_child: 6,
            self.kill_a_worker: 1,
            self.stop_a_worker: 1,
            self.cut_all_connections: 5,
            self.redis_stands_still: 3,
            self.redis_restarts: 2,
            self.redis_is_full: 2,
            self.lose_a_message: 4,
            self.deliver_a_message_twice: 3,
            self.put_garbage_on_the_queue: 3,
            self.take_memory_from_a_child: 3,
            self.deliver_an_old_message: 5,
            self.expire_a_forgotten_job: 2,
        }
        if any(worker.clock for worker in workers):
            self.weights[self.step_a_clock] = 4

    def strike(self) -> str:
        """Cause one of the faults; return its name."""
        fault = self._rng.choices(list(self.weights), list(self.weights.values()))[0]
        with suppress(ProcessLookupError):
            fault()
        return getattr(fault, "__name__", "").replace("_", " ")

    def _worker(self) -> Worker:
        return self._rng.choice(self._workers)

    def kill_a_child(self) -> None:
        for child in self._worker().children[:1]:
            os.kill(child, signal.SIGKILL)

    def kill_a_worker(self) -> None:
        os.kill(self._worker().process.pid, signal.SIGKILL)

    def stop_a_worker(self) -> None:
        self._worker().process.terminate()

    def cut_all_connections(self) -> None:
        self._server.hang_up()

    def redis_stands_still(self) -> None:
        with self._server.standing_still():
            time.sleep(self._rng.uniform(0.5, 6.0))

    def redis_restarts(self) -> None:
        with self._server.away():
            time.sleep(self._rng.uniform(0.1, 2.0))

    def redis_is_full(self) -> None:
        with self._server.full():
            time.sleep(self._rng.uniform(0.5, 3.0))

    def lose_a_message(self) -> None:
        """Imitate a worker that dies between taking a message and noting that it has it."""
        self._server.admin.rpop(self._rng.choice(self._keys.queue_lists[:3]))

    def deliver_a_message_twice(self) -> None:
        """Restore messages like those of a worker whose connection breaks."""
        for name in self._keys.queue_lists:
            message = self._server.admin.lindex(name, -1)
            if isinstance(message, bytes):
                self._seen.append((name, message))
                self._server.admin.rpush(name, message)
                return

    def deliver_an_old_message(self) -> None:
        """Imitate a message that a worker took long ago; its job may be done and forgotten."""
        self._remember_messages()
        for name, message in self._rng.sample(self._seen, min(3, len(self._seen))):
            self._server.admin.rpush(name, message)

    def _remember_messages(self) -> None:
        for name in self._keys.queue_lists:
            messages: Any = self._server.admin.lrange(name, -20, -1)
            self._seen += [(name, message) for message in messages]

    def expire_a_forgotten_job(self) -> None:
        """Delete the small state, while copies of its message may still exist."""
        self._remember_messages()
        for job_id in list(self.forgotten)[-5:]:
            self._server.admin.delete(self._keys.job(job_id))

    def step_a_clock(self) -> None:
        """Move a worker's clock by more than the visibility timeout and the leases."""
        if clock := self._worker().clock:
            clock.put(self._rng.choice((-7_200, -100, -10, 0, 10, 100, 7_200)))

    def put_garbage_on_the_queue(self) -> None:
        garbage = (b"garbage", b"\xff\xfe", b"[]", b"{}", b'{"properties": {}}', b"null")
        self._server.admin.rpush(self._keys.queue, self._rng.choice(garbage))

    def take_memory_from_a_child(self) -> None:
        """Limit Redis for two seconds to the memory that it has."""
        for child in self._worker().children[:1]:
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[0])
            taken = pages * os.sysconf("SC_PAGE_SIZE")
            resource.prlimit(child, resource.RLIMIT_AS, (taken, resource.RLIM_INFINITY))
            time.sleep(2)
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(child, resource.RLIMIT_AS, unlimited)
