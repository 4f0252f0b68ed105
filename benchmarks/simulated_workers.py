"""Workers without a model, many of them in one process, which speak the protocol of real ones.

Each takes a message from the queue, starts an attempt, loads the payload, waits as long as its
speed says, and records a result. It also sends Celery's events, stores Celery's result and
acknowledges the message, so that Redis has the work that a real worker makes. The thread of a
worker does the work of its main process and of its only child.

Run `python -m benchmarks.simulated_workers COUNTxPAIRS_PER_S ...`, with the settings of the workers
in the environment. It ends with its standard input, and then prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import click
import redis
from kombu import Connection
from kombu.pidbox import Mailbox

from contract import names
from contract.columns import JobColumns, ResultColumns
from contract.records import Provenance
from contract.settings import Settings
from contract.store import attempts, encoding, outcomes
from contract.store.attempts import Verdict
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from worker.runtime.transport import HOLD
from worker.runtime.turns import in_turn

MODEL = "simulated"
LEASE_S = 30.0
#: As a real worker: its longest wait for a message, and the interval of its heartbeats.
POP_S = 1
HEARTBEAT_S = 2.0
#: The size of Celery's events: `task-received`, `task-started` and `task-succeeded` of a job.
EVENT_BYTES = 700
#: Scores with as many digits as those of a model, best first.
SCORES = [11.0 - 0.012345678901234 * place for place in range(1_000)]


@dataclass
class Work:
    """The work of all workers of one speed."""

    workers: int
    pairs_per_s: float
    jobs: int = 0
    pairs: int = 0
    #: The time for which they were scoring or handling a job, in seconds.
    busy_s: float = 0.0


class SimulatedWorker(threading.Thread):
    """A worker that scores `pairs_per_s` pairs per second, and adds what it does to `work`."""

    def __init__(self, settings: Settings, work: Work, over: threading.Event) -> None:
        super().__init__(name="simulated-worker", daemon=True)
        self._work, self._over = work, over
        url = settings.redis_url.get_secret_value()
        # The main process of a worker and its child have a connection each.
        self._main = redis.Redis.from_url(url, client_name="rerankq-worker")
        self._store = JobStore(redis.Redis.from_url(url), Schema(settings))
        self._keys = names.Keys(settings.namespace)
        self._events = f"/0.{settings.namespace}.events"
        self._beat_at = 0.0

    def run(self) -> None:
        """Score jobs until it is over."""
        while not self._over.is_set():
            if time.monotonic() >= self._beat_at:
                self._beat_at = time.monotonic() + HEARTBEAT_S
                self._publish("worker.heartbeat")
            popped: Any = self._main.brpop(list(self._keys.queue_lists), timeout=POP_S)
            if popped is not None:
                began = time.monotonic()
                self._score(*popped)
                self._work.busy_s += time.monotonic() - began

    def _score(self, queue: bytes, raw: bytes) -> None:
        message = in_turn(self._main, self._keys, json.loads(raw))
        if message is None:
            return
        job_id, tag = message["headers"]["id"], message["properties"]["delivery_tag"]
        held = json.dumps([message, "", queue.decode()])
        self._main.eval(HOLD, 2, self._keys.unacked_index, self._keys.unacked, tag, held)
        schema, token = self._store.schema, f"simulated:1:{uuid.uuid4().hex}"
        self._publish("task.multi")
        started = self._store.execute(
            attempts.start(schema, job_id, token, max_attempts=4, lease_s=LEASE_S)
        )
        if started.verdict is Verdict.STARTED:
            self._publish("task.multi")
            job = encoding.decode_job(schema.settings, job_id, started.payload)
            began = time.monotonic()
            time.sleep(job.pairs / self._work.pairs_per_s)
            result = result_of(job, time.monotonic() - began)
            self._store.execute(outcomes.finish(schema, result, token))
            self._work.jobs += 1
            self._work.pairs += job.pairs
        self._acknowledge(job_id, tag)

    def _acknowledge(self, job_id: str, tag: str) -> None:
        """Store Celery's result, report the end, and acknowledge the message."""
        meta = f"{self._keys.namespace}:celery-task-meta-{job_id}"
        summary = json.dumps({"status": "SUCCESS", "result": {"model": MODEL}, "task_id": job_id})
        self._store.client.get(meta)
        with self._store.client.pipeline() as pipe:
            pipe.set(meta, summary, ex=3600)
            pipe.publish(meta, summary)
            pipe.execute()
        self._publish("task.multi")
        with self._main.pipeline() as pipe:
            pipe.zrem(self._keys.unacked_index, tag)
            pipe.hdel(self._keys.unacked, tag)
            pipe.execute()

    def _publish(self, event: str) -> None:
        self._main.publish(f"{self._events}/{event}", b"x" * EVENT_BYTES)


def result_of(job: JobColumns, seconds: float) -> ResultColumns:
    """Return a result in which the documents keep their order."""
    indexes = [index for count in job.counts for index in range(count)]
    return ResultColumns.model_construct(
        job_id=job.id,
        provenance=Provenance(
            model_requested=MODEL,
            model=MODEL,
            attempts=1,
            backend="simulated",
            device="none",
            dtype="float32",
            max_length=512,
            pairs=job.pairs,
            unique_pairs=job.pairs,
            tokens=100 * job.pairs,
            truncated=0,
            seconds=seconds,
        ),
        query_ids=job.query_ids,
        truncated=[0] * len(job.counts),
        counts=job.counts,
        ids=job.ids,
        indexes=indexes,
        scores=[SCORES[index % len(SCORES)] for index in indexes],
    )


class Answers(threading.Thread):
    """Answers the questions of producers for all workers."""

    def __init__(self, settings: Settings, workers: int, over: threading.Event) -> None:
        super().__init__(name="answers", daemon=True)
        self._over = over
        self._connection = Connection(settings.redis_server)
        self.listening = threading.Event()
        mailbox = Mailbox(settings.namespace, type="fanout", accept=["json"], serializer="json")(
            self._connection
        )
        readiness = {"children": 1, "ready": 1, "model": MODEL, "stage": ""}
        handlers: dict[str, Callable[[Any], Any]] = {
            "ping": lambda _: {"ok": "pong"},
            "readiness": lambda _: readiness,
        }
        prefix = uuid.uuid4().hex[:8]
        self._nodes = [
            mailbox.Node(f"{prefix}-{number}@simulated", handlers=handlers)
            for number in range(workers)
        ]

    def run(self) -> None:
        """Answer until it is over."""
        with self._connection.channel() as channel:
            for node in self._nodes:
                node.channel = channel
            self._nodes[0].listen(callback=self._answer)
            self.listening.set()
            while not self._over.is_set():
                with suppress(TimeoutError):
                    self._connection.drain_events(timeout=0.2)
        self._connection.release()

    def _answer(self, body: Any, message: Any) -> None:
        for node in self._nodes:
            node.handle_message(body, message)


def _fail(failed: threading.ExceptHookArgs) -> None:
    """End the process after an error in a thread, because a worker would be missing."""
    sys.__excepthook__(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    os._exit(1)


def parse(given: str) -> Work:
    """Return the workers in COUNTxPAIRS_PER_S. Raises `ValueError`."""
    count, _, speed = given.partition("x")
    made = Work(int(count), float(speed))
    if made.workers < 1 or not 0 < made.pairs_per_s < float("inf"):
        raise ValueError(f"{given!r} has no workers")
    return made


def main(given: Sequence[str]) -> None:
    """Run the workers until the standard input ends."""
    threading.excepthook = _fail
    settings, over = Settings.load(), threading.Event()
    work = [parse(each) for each in given]
    workers = [SimulatedWorker(settings, each, over) for each in work for _ in range(each.workers)]
    answers = Answers(settings, len(workers), over)
    for thread in (answers, *workers):
        thread.start()
    answers.listening.wait()
    before_s = time.process_time()
    click.echo("ready")
    sys.stdin.read()
    over.set()
    for thread in (answers, *workers):
        thread.join(2 * POP_S)
    cpu_s = time.process_time() - before_s
    click.echo(json.dumps({"cpu_s": cpu_s, "work": [asdict(each) for each in work]}))


if __name__ == "__main__":
    main(sys.argv[1:])
