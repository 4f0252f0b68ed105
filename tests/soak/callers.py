"""Callers during faults: they submit, await and forget jobs, and manage dead letters."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from contract import jobs, metrics
from contract.errors import JobFailed, JobNotFound, RerankError
from producer.client.blocking import RerankClient
from tests.processes import run

T = TypeVar("T")

#: The threads of one producer.
CALLERS = 50
#: The share of results that callers forget.
FORGOTTEN = 0.25
#: The seconds between two commands.
TENDED_EVERY_S = 4.0


def priority_of(job: jobs.Job) -> int:
    return (0, 3, 6)[len(job.requests) % 3]


class Callers:
    """Threads that share a client; each submits a job, awaits it, and continues with the next."""

    def __init__(self, client: RerankClient, made: Iterable[jobs.Job], rng: random.Random) -> None:
        self._client = client
        self._jobs = iter(made)
        self._next = threading.Lock()
        self._rng = rng
        self._threads = [threading.Thread(target=self._work) for _ in range(CALLERS)]
        #: The results that callers forgot, by the ids of their jobs.
        self.forgotten: dict[str, jobs.JobResult] = {}
        self.refusals = 0
        #: The errors that no caller expects.
        self.errors: list[str] = []
        self.over = threading.Event()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """Stop the threads from awaiting jobs, and wait until they have ended."""
        self.over.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self) -> None:
        while (job := self._take()) is not None:
            try:
                self._bring_through(job)
            except Exception as error:  # noqa: BLE001
                self.errors.append(f"{job.id}: {error!r}")

    def _take(self) -> jobs.Job | None:
        with self._next:
            return next(self._jobs, None)

    def _bring_through(self, job: jobs.Job) -> None:
        self._patiently(lambda: self._client.submit_job(job, priority=priority_of(job)))
        try:
            result = self._patiently(lambda: self._client.result(job.id, timeout=5.0))
        except JobFailed:
            return
        if result is not None and self._rng.random() < FORGOTTEN:
            self._patiently(lambda: self._client.forget(job.id))
            self.forgotten[job.id] = result

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """Call until it succeeds; return None if the callers were stopped."""
        while True:
            try:
                return call()
            except RerankError as error:
                if not error.retryable or isinstance(error, JobFailed):
                    raise
                if error.code != "result_timeout":
                    self.refusals += 1
                elif self.over.is_set():
                    return None
                time.sleep(0.3)


class Operator(threading.Thread):
    """Lists, retries and drops dead letters with the command line."""

    def __init__(
        self, client: RerankClient, environment: Mapping[str, str], rng: random.Random
    ) -> None:
        super().__init__()
        self._client = client
        self._environment = environment
        self._rng = rng
        self.over = threading.Event()
        self.commands: Counter[str] = Counter()
        self.dropped: set[str] = set()
        #: The counts of earlier runs of jobs that were retried.
        self.counted: Counter[str] = Counter()
        self.errors: list[str] = []

    def run(self) -> None:
        while not self.over.wait(TENDED_EVERY_S):
            try:
                self._tend()
            except RerankError as error:
                self.commands[f"unheard ({error.code})"] += 1

    def end(self) -> None:
        self.over.set()
        self.join(120)

    def _tend(self) -> None:
        listed = self._command("list", "--json")
        if listed is None or not (lines := listed.splitlines()):
            return
        letter = self._rng.choice([json.loads(line) for line in lines])
        command = self._rng.choice(("retry", "retry", "drop"))
        self._command(command, letter["job_id"])
        # A command that lost its connection to Redis may have succeeded: the dead letter shows it.
        if not self._is_still_there(letter):
            if command == "drop":
                self.dropped.add(letter["job_id"])
            else:
                self.counted[metrics.JOBS_ACCEPTED.field()] += 1
                self.counted[metrics.JOBS_ENDED.field(jobs.JobState.FAILED)] += 1
                self.counted[metrics.FAILURES.field(letter["code"])] += 1
                self.counted[metrics.ATTEMPTS.field()] += letter["attempts"]

    def _is_still_there(self, letter: dict[str, object]) -> bool:
        deadline = time.monotonic() + 120
        while True:
            try:
                now = self._client.dead_letter(str(letter["job_id"]))
                return now.ended_at == letter["ended_at"]
            except JobNotFound:
                return False
            except RerankError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def _command(self, *arguments: str) -> str | None:
        done = run("producer", "dead", *arguments, environment=self._environment)
        self.commands[arguments[0] if done.returncode == 0 else f"{arguments[0]} in vain"] += 1
        if "Traceback" in done.stderr:
            self.errors.append(f"dead {' '.join(arguments)}: {done.stderr}")
        return done.stdout if done.returncode == 0 else None
