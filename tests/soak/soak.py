"""Many jobs, fifty callers, two workers, a fault every two seconds; at the end the books balance.

    python -m tests.soak.soak --jobs 1000 --seed 7

Every accepted job has ended in exactly one result or failure (lost = 0), which never changed
(doubled = 0). A result has exactly the scores of the model that it names (mixed = 0). The
counts of `rerankq metrics` agree (miscounted = 0). Meanwhile callers forget results whose messages
still exist, an operator retries and drops dead letters, and clocks are moved forward and back.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from contract import jobs, metrics
from contract.errors import RerankError
from contract.names import Keys
from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.embedded_redis import FaultyRedis
from tests.soak import clocks
from tests.soak.callers import Callers, Operator
from tests.soak.faults import Faults, Worker
from tests.soak.jobs import Expected, made, real_models

T = TypeVar("T")

EVERY_S = 2.0
#: After the last fault, for jobs that are still running.
PATIENCE_S = 240.0

#: Short, so that they expire even in a soak test of a minute.
TIMES = {
    "RERANKQ_LEASE_S": "6",
    "RERANKQ_SWEEP_EVERY_S": "2",
    "RERANKQ_RESEND_AFTER_S": "6",
    "RERANKQ_SOFT_TIME_LIMIT_S": "60",
    "RERANKQ_TIME_LIMIT_S": "70",
    "RERANKQ_VISIBILITY_TIMEOUT_S": "80",
}


@dataclass
class Books:
    """The jobs that were submitted, and their outcomes."""

    jobs: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    #: By the model's role, or the failure's code.
    results: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    worker_starts: int = 0
    #: The number of jobs by their attempts.
    executions: Counter[int] = field(default_factory=Counter)
    refusals: int = 0
    forgotten: int = 0
    #: The number of commands about dead letters, and unexpected errors of commands and callers.
    commands: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    miscounted: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Check that nothing is lost, doubled or mixed, and that every job is accounted for."""
        accounted = self.results.total() + self.failures.total() + len(self.lost)
        return not any(self._wrong) and not self.errors and accounted == self.jobs

    @property
    def _wrong(self) -> tuple[list[str], ...]:
        return self.lost, self.doubled, self.mixed, self.miscounted

    def __str__(self) -> str:
        def of(counts: Counter[str] | Counter[int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "-"

        return "\n".join(
            (
                f"jobs         {self.jobs} in {self.seconds:.0f} s",
                f"results      {of(self.results)}; forgotten by their callers {self.forgotten}",
                f"failures     {of(self.failures)}; dead letters {self.dead_letters}",
                f"faults       {self.faults.total()}: {of(self.faults)}",
                f"worker       starts {self.worker_starts}; refused submissions {self.refusals}",
                f"dead ...     {of(self.commands)}",
                f"executions   of one job: {of(self.executions)}",
                "lost {}, doubled {}, mixed {}, miscounted {}".format(*map(len, self._wrong)),
                *(f"  {each}" for wrong in (*self._wrong, self.errors) for each in wrong),
            )
        )


class Soak:
    """One run, with a model and its downgrade model."""

    def __init__(
        self,
        models: tuple[str, str],
        number: int,
        seed: int,
        folder: Path,
        say: Callable[[str], object],
    ) -> None:
        self._models = models
        self._rng = random.Random(seed)
        self._jobs = made(number, self._rng)
        self._folder = folder
        self._say = say
        self.books = Books(number)
        self._live = self._done = 0

    def run(self, fault_every_s: float = EVERY_S) -> Books:
        """Submit all jobs, cause faults until all are done, and count."""
        full, downgraded = self._models
        with ExitStack() as stack:
            server = stack.enter_context(FaultyRedis(appendonly="yes", appendfsync="always"))
            settings = Settings.load(redis_url=server.url, namespace="soak")
            environment = TIMES | {
                "RERANKQ_REDIS_URL": server.url,
                "RERANKQ_NAMESPACE": "soak",
                "CROSS_ENCODER_MODEL": full,
                "RERANKQ_DOWNGRADE_MODEL": downgraded,
                "RERANKQ_THREADS": "1",
            }
            library = clocks.built(self._folder)
            if library is None:
                self._say("no clock is moved: there is no C compiler (cc)")
            workers = [
                Worker(
                    *(name, environment, self._folder),
                    clocks.Clock(library, self._folder / f"{name}.clock") if library else None,
                )
                for name in ("one", "two")
            ]
            for worker in workers:
                stack.callback(worker.end)
            client = stack.enter_context(RerankClient(settings))
            insist(lambda: client.workers(0.5), lambda found: len(found) == len(workers))
            callers = Callers(client, self._jobs, random.Random(self._rng.random()))
            faults = Faults(server, workers, Keys("soak"), self._rng)
            faults.forgotten = callers.forgotten
            operator = Operator(client, os.environ | environment, random.Random(self._rng.random()))
            operator.start()
            try:
                self._go(client, faults, workers, callers, operator, fault_every_s)
            finally:
                operator.end()
                callers.end()
            self.books.worker_starts = sum(worker.starts for worker in workers)
            expected = Expected(self._models, self._jobs)
            self._count(client, expected, callers, operator)
        return self.books

    def _go(
        self,
        client: RerankClient,
        faults: Faults,
        workers: list[Worker],
        callers: Callers,
        operator: Operator,
        fault_every_s: float,
    ) -> None:
        began = due = time.monotonic()
        callers.start()
        while callers.busy or not self._all_ended(client):
            for worker in workers:
                worker.see_to_it()
            time.sleep(max(0.0, due - time.monotonic()))
            due = time.monotonic() + fault_every_s
            fault = faults.strike()
            self.books.faults[fault] += 1
            self._all_ended(client)
            took_s = time.monotonic() - began
            self._say(f"{took_s:6.1f} s  {self._done:4} done, {self._live:2} live  {fault}")
            if time.monotonic() - began > PATIENCE_S + len(self._jobs):
                break
        self.books.seconds = time.monotonic() - began
        operator.end()
        deadline = time.monotonic() + PATIENCE_S
        while not self._all_ended(client) and time.monotonic() < deadline:
            for worker in workers:
                worker.see_to_it()
            time.sleep(0.5)

    def _all_ended(self, client: RerankClient) -> bool:
        status = insist(client.status)
        self._live = status.jobs[jobs.JobState.QUEUED] + status.jobs[jobs.JobState.RUNNING]
        self._done = status.jobs[jobs.JobState.DONE] + status.jobs[jobs.JobState.FAILED]
        return not self._live

    def _count(
        self, client: RerankClient, expected: Expected, callers: Callers, operator: Operator
    ) -> None:
        books = self.books
        books.refusals, books.forgotten = callers.refusals, len(callers.forgotten)
        books.commands = operator.commands
        books.errors += callers.errors + operator.errors
        letters = {letter.job_id for letter in client.dead_letters(len(self._jobs))}
        books.dead_letters = len(letters)
        amounts = Counter(operator.counted)
        with client.watch() as watch:
            for job in self._jobs:
                ended = callers.forgotten.get(job.id) or watch.any_of([job.id], 0).get(job.id)
                if isinstance(ended, jobs.Outcome):
                    amounts.update(metrics.outcome_counts(ended))
                    made = ended.provenance if isinstance(ended, jobs.JobResult) else ended
                    books.executions[made.attempts] += 1
                if isinstance(ended, jobs.JobResult):
                    self._check(job, ended, expected)
                    if job.id in letters:
                        books.doubled.append(f"{job.id} has a result and is a dead letter")
                elif isinstance(ended, jobs.Failure):
                    books.failures[ended.code] += 1
                    if job.id not in letters | operator.dropped:
                        books.lost.append(f"{job.id} failed ({ended.code}) and is no dead letter")
                else:
                    books.lost.append(f"{job.id}: {ended!r}")
        self._compare(client.status(), amounts)

    def _check(self, job: jobs.Job, result: jobs.JobResult, expected: Expected) -> None:
        downgraded = result.provenance.downgraded
        self.books.results["downgraded" if downgraded else "full"] += 1
        if not (expected.is_of_one_model(job, result) and expected.is_whole(job, result)):
            self.books.mixed.append(job.id)
        if downgraded and not job.allow_downgrade:
            self.books.mixed.append(f"{job.id} must not be downgraded")

    def _compare(self, status: jobs.QueueStatus, amounts: Counter[str]) -> None:
        """Compare the counts of the service with its records."""
        books = self.books
        amounts[metrics.JOBS_ACCEPTED.field()] += len(self._jobs)
        amounts[metrics.ATTEMPTS.field()] += sum(books.executions.elements())
        for what, amount in amounts.items():
            name, _, label = what.partition(" ")
            if (told := status.counters[name].get(label, 0)) != amount:
                books.miscounted.append(f"{what}: {told:,.0f} instead of {amount:,.0f}")
        ended_in_all = status.jobs[jobs.JobState.DONE] + status.jobs[jobs.JobState.FAILED]
        if ended_in_all != len(self._jobs):
            books.doubled.append(f"{ended_in_all} ends were recorded of {len(self._jobs)} jobs")


def insist(call: Callable[[], T], enough: Callable[[T], bool] = lambda _: True) -> T:
    """Call until it returns enough; errors of a Redis that is away are part of the test."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if enough(found := call()):
                return found
        except RerankError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "the service does not come back"
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--logs", type=Path, default=None, help="keep the workers' logs there")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)  # noqa: T201
    folder = given.logs or Path(tempfile.mkdtemp(prefix="rerankq-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    say = functools.partial(print, flush=True)
    books = Soak(real_models(folder), given.jobs, seed, folder, say).run()
    say(books)
    if books.balanced and given.logs is None:
        shutil.rmtree(folder)
    else:
        print(f"logs: {folder}")  # noqa: T201
    return 0 if books.balanced else 1


if __name__ == "__main__":
    raise SystemExit(main())
