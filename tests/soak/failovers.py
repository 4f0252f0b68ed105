"""A thousand jobs and re-scorings during twenty failovers; at the end the books balance.

    python -m tests.soak.failovers --jobs 1000 --failovers 20 --seed 7

Half of the failovers are a SIGKILL of the primary with writes under way. Its replica has not
received those of the last fifth of a second. The other half are requested from the
sentinels. Each job has one result (doubled = 0), with exactly the scores of one model
(mixed = 0). A producer whose job was lost notices it and submits it again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

from contract import jobs
from contract.errors import JobNotFound, RerankError
from producer.client.blocking import RerankClient
from tests.processes import run
from tests.sentinel_servers import Replicated
from tests.soak.faults import Worker
from tests.soak.jobs import SAMPLE, Expected, made, stub_models
from tests.soak.soak import TIMES, insist

T = TypeVar("T")

CALLERS = 20
#: How long the replica does not receive what is written, before the primary is killed. It is less
#: than the time after which sentinels consider it down.
LAG_S = 0.2
#: For the jobs after the last failover, and for messages of workers that lost their connections.
PATIENCE_S = 180.0


@dataclass
class Books:
    """The jobs that were submitted, lost and found."""

    jobs: int
    seconds: float = 0.0
    failovers: Counter[str] = field(default_factory=Counter)
    #: The seconds until the sentinels and the new primary agreed.
    outages_s: list[float] = field(default_factory=list)
    #: How often a producer found its job lost, and submitted it again.
    lost: int = 0
    #: Calls that failed because no primary answered, and were repeated.
    refusals: int = 0
    rescored: Counter[str] = field(default_factory=Counter)
    doubled: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Check that each job has one result, and that every re-scoring is right."""
        wrong = (self.doubled, self.mixed, self.missing, self.errors, self.left)
        return not any(wrong) and set(self.rescored) == {"equal to the byte"}

    def __str__(self) -> str:
        def of(counts: Counter[str] | dict[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "-"

        listed = (self.doubled, self.mixed, self.missing, self.errors)
        outages = f"median {median(self.outages_s):.1f} s, at most {max(self.outages_s):.1f} s"
        return "\n".join(
            (
                f"failovers    {self.failovers.total()}: {of(self.failovers)}",
                f"no primary   {outages}",
                f"jobs         {self.jobs} in {self.seconds:.0f} s",
                f"lost         {self.lost}, noticed by their producers and submitted again",
                f"wrong        doubled {len(self.doubled)}, mixed {len(self.mixed)},"
                f" missing {len(self.missing)}",
                f"rescore      runs {self.rescored.total()}: {of(self.rescored)}",
                f"refused      {self.refusals} calls, which were repeated",
                f"left         {of(self.left)}",
                *(f"  {each}" for some in listed for each in some),
            )
        )


class Producers:
    """Threads that share a client; each submits a job, awaits it, and continues with the next."""

    def __init__(self, client: RerankClient, made: Sequence[jobs.Job], books: Books) -> None:
        self._client = client
        self._left = iter(made)
        self._books = books
        self._released = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(CALLERS)]
        self.results: dict[str, jobs.JobResult] = {}
        for thread in self._threads:
            thread.start()

    def release(self, number: int) -> None:
        """Let this many more jobs be submitted."""
        self._released.release(number)

    def join(self) -> None:
        """Wait until all jobs have ended."""
        self._released.release(CALLERS)
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _work(self) -> None:
        while True:
            self._released.acquire()
            with self._lock:
                job = next(self._left, None)
            if job is None:
                return
            try:
                self.results[job.id] = self._bring_through(job)
            except Exception as error:  # noqa: BLE001
                self._books.errors.append(f"{job.id}: {error!r}")

    def _bring_through(self, job: jobs.Job) -> jobs.JobResult:
        while True:
            self._patiently(lambda: self._client.submit_job(job))
            try:
                return self._patiently(lambda: self._client.result(job.id, timeout=PATIENCE_S))
            except JobNotFound:
                with self._lock:
                    self._books.lost += 1

    def _patiently(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except RerankError as error:
                if error.code != "redis_unavailable":
                    raise
                with self._lock:
                    self._books.refusals += 1
                time.sleep(0.1)


class Rescorings(threading.Thread):
    """Re-scores the sample again and again, and compares each output with the first one."""

    def __init__(self, environment: dict[str, str], folder: Path, books: Books) -> None:
        super().__init__()
        self._environment = environment
        self._folder = folder
        self._books = books
        self.over = threading.Event()
        self.expected = self._output("expected")

    def run(self) -> None:
        number = 0
        while not self.over.is_set() or not number:
            number += 1
            try:
                equal = self._output(str(number)) == self.expected
                self._books.rescored["equal to the byte" if equal else "different"] += 1
            except AssertionError as error:
                self._books.rescored["failed"] += 1
                self._books.errors.append(str(error))

    def _output(self, name: str) -> bytes:
        output = self._folder / f"{name}.trec"
        done = run(
            *("producer", "rescore", "--corpus", str(SAMPLE / "corpus.jsonl")),
            *("--queries", str(SAMPLE / "queries.jsonl"), "--run", str(SAMPLE / "bm25.trec")),
            *("--output", str(output), "--pairs-per-job", "50"),
            environment=self._environment,
        )
        assert done.returncode == 0, f"rescore {name}: {done.stderr[-500:]}"
        return output.read_bytes()


class Failovers:
    """One run against a primary, a replica and three sentinels."""

    def __init__(
        self, number: int, count: int, seed: int, folder: Path, say: Callable[[str], object]
    ) -> None:
        self._rng = random.Random(seed)
        self._jobs = made(count, self._rng)
        self._number = number
        self._folder = folder
        self._say = say
        self.books = Books(count)

    def run(self, program: str | None = None) -> Books:
        """Submit all jobs, fail over, and count."""
        models = stub_models()
        with ExitStack() as stack:
            servers = stack.enter_context(
                Replicated(self._folder / "servers", program, down_after_ms=300)
            )
            settings = servers.settings(redis_timeout_s=1.0)
            environment = TIMES | {
                "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
                "RERANKQ_NAMESPACE": settings.namespace,
                "CROSS_ENCODER_MODEL": models[0].replace("=100", "=250"),
                "RERANKQ_DOWNGRADE_MODEL": models[1],
            }
            workers = [Worker(name, environment, self._folder) for name in ("one", "two")]
            for worker in workers:
                stack.callback(worker.end)
            client = stack.enter_context(RerankClient(settings))
            insist(lambda: client.workers(0.5), lambda found: len(found) == len(workers))
            rescorings = Rescorings(os.environ | environment, self._folder, self.books)
            rescorings.start()
            producers = Producers(client, self._jobs, self.books)
            began = time.monotonic()
            try:
                self._fail_over_repeatedly(servers, producers, workers)
            finally:
                rescorings.over.set()
                producers.join()
                rescorings.join()
            self.books.seconds = time.monotonic() - began
            self._count(
                client, producers, Expected((environment["CROSS_ENCODER_MODEL"],), self._jobs)
            )
            assert [worker.starts for worker in workers] == [1, 1], "a worker has ended"
        return self.books

    def _fail_over_repeatedly(
        self, servers: Replicated, producers: Producers, workers: list[Worker]
    ) -> None:
        share, released = len(self._jobs) / self._number, 0
        for number in range(self._number):
            due = round((number + 1) * share)
            producers.release(due - released)
            released = due
            time.sleep(self._rng.uniform(0.3, 1.5))
            began = time.monotonic()
            if number % 2:
                servers.fail_over()
                self.books.failovers["requested"] += 1
            else:
                killed = servers.kill_primary(lag_s=LAG_S)
                self.books.failovers["SIGKILL"] += 1
            self.books.outages_s.append(time.monotonic() - began)
            if not number % 2:
                servers.start(killed, replica=False)  # as what it was: the sentinels demote it
            servers.await_replica()
            for worker in workers:
                worker.see_to_it()
            self._say(
                f"{number + 1:2} of {self._number} in {time.monotonic() - began:4.1f} s:"
                f" {len(producers.results)} jobs done, {self.books.lost} lost so far"
            )

    def _count(self, client: RerankClient, producers: Producers, expected: Expected) -> None:
        books = self.books
        with client.watch() as watch:
            for job in self._jobs:
                result = producers.results.get(job.id)
                if result is None:
                    books.missing.append(job.id)
                    continue
                if not (expected.is_of_one_model(job, result) and expected.is_whole(job, result)):
                    books.mixed.append(job.id)
                # The record may have been lost since, but it must not have another result.
                now = watch.any_of([job.id], 0).get(job.id)
                if isinstance(now, jobs.JobResult) and now.rankings != result.rankings:
                    books.doubled.append(job.id)
        deadline = time.monotonic() + PATIENCE_S
        while (left := self._left(client)) and time.monotonic() < deadline:
            time.sleep(1)
        books.left = left

    @staticmethod
    def _left(client: RerankClient) -> dict[str, int]:
        status = client.status()
        counts = {
            "queued": status.jobs[jobs.JobState.QUEUED],
            "running": status.jobs[jobs.JobState.RUNNING],
            "messages": status.queue_depth,
        }
        return {name: count for name, count in counts.items() if count}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--failovers", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--server", default=None, help="redis-server, instead of the embedded one")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)  # noqa: T201
    folder = Path(tempfile.mkdtemp(prefix="rerankq-failovers-"))
    (folder / "servers").mkdir()

    def say(text: object) -> None:
        print(text, flush=True)  # noqa: T201

    books = Failovers(given.failovers, given.jobs, seed, folder, say).run(given.server)
    say(books)
    if books.balanced:
        shutil.rmtree(folder)
    else:
        say(f"logs: {folder}")
    return 0 if books.balanced else 1


if __name__ == "__main__":
    raise SystemExit(main())
