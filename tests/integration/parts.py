"""What several files of this folder share: records to store, and looks at the queue and keys."""

from __future__ import annotations

import base64
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery

from contract import jobs, names
from contract.settings import Settings
from contract.store import attempts
from contract.store.connection import JobStore
from contract.store.records import Exchange, Records
from tests.processes import wait_until

#: Long enough for a busy machine; a test that passes does not wait so long.
PATIENCE_S = 30.0

#: Of a job that was begun: longer than any test.
LEASE_S = 30

QUERY = "edit mp3 tags from the terminal"
DOCUMENTS = ("a tag editor for music files", "a game with a blue hedgehog")


@dataclass(frozen=True)
class Message:
    """A message on the queue, as a worker would read it."""

    #: The priority step of the list it lies on.
    step: int
    id: str
    task: str
    arguments: list[Any]
    counts: dict[str, Any]
    #: All that is readable in it.
    text: str


def request(*, documents: int = 2, query: str = QUERY, **fields: Any) -> jobs.Request:
    """A request with so many different documents."""
    candidates = tuple(
        jobs.Candidate(id=f"d{place}", text=f"document number {place}")
        for place in range(documents)
    )
    return jobs.Request(query=query, candidates=candidates, **fields)


def job(
    job_id: str | None = None,
    *,
    requests: int = 1,
    documents: int = 2,
    query: str = QUERY,
    model: str | None = None,
) -> jobs.Job:
    """A job with so many requests of so many documents each."""
    return jobs.Job(
        id=job_id or jobs.new_job_id(),
        requests=tuple(request(documents=documents, query=query) for _ in range(requests)),
        model=model,
    )


def payload(records: Records, job_id: str) -> Exchange[jobs.Job]:
    """Load a job as a worker would, without counting an attempt."""
    return Exchange(
        lambda pipe: pipe.get(records.keys.payload(job_id)),
        lambda replies: records.job(job_id, replies[0]),
    )


def begin(records: Records, job_id: str, token: str | None = None) -> Exchange[attempts.Started]:
    """Begin an attempt as a worker would."""
    return attempts.start(
        records, job_id, token or uuid.uuid4().hex, max_attempts=4, lease_s=LEASE_S
    )


def result_of(job_id: str, *, downgraded: bool = False, score: float = 1.5) -> jobs.JobResult:
    """A result as a worker would record it."""
    document = jobs.RankedDocument(id="d1", index=1, rank=1, score=score, relevance=0.8)
    return jobs.JobResult(
        job_id=job_id,
        rankings=(jobs.Ranking(query_id=None, documents=(document,)),),
        provenance=jobs.Provenance(
            model_requested="bundled",
            model="smaller" if downgraded else "bundled",
            downgraded=downgraded,
            reason="out of memory" if downgraded else None,
            attempts=1,
            backend="torch",
            device="cpu",
            dtype="float32",
            max_length=512,
            pairs=2,
            unique_pairs=2,
            tokens=40,
            truncated=0,
            seconds=0.1,
        ),
    )


def failure_of(job_id: str, code: str = "scoring_failed") -> jobs.Failure:
    """A failure as a worker would record it."""
    return jobs.Failure(
        job_id=job_id, code=code, message="the model failed", retryable=False, attempts=1
    )


def environment(**settings: str) -> dict[str, str]:
    """That of this process for another one: with these settings, and no others of the machine."""
    ours = ("RERANKQ_", "CROSS_ENCODER_", "SENTENCE_TRANSFORMERS_")
    return {name: each for name, each in os.environ.items() if not name.startswith(ours)} | settings


def messages(client: redis.Redis, settings: Settings) -> list[Message]:
    """All messages on the queue, list by list, in each the first submitted first."""
    keys = names.Keys(settings.namespace)
    found = []
    for step, name in zip(names.PRIORITY_STEPS, keys.queue_lists, strict=True):
        raw: Any = client.lrange(name, 0, -1)
        found += [_message(step, each) for each in reversed(raw)]
    return found


def _message(step: int, raw: bytes) -> Message:
    envelope = json.loads(raw)
    body = base64.b64decode(envelope["body"]).decode()
    arguments, counts, _ = json.loads(body)
    headers = envelope["headers"]
    return Message(
        step=step,
        id=headers["id"],
        task=headers["task"],
        arguments=arguments,
        counts=counts,
        text=raw.decode() + body,
    )


def keys_of(client: redis.Redis, settings: Settings) -> list[str]:
    """All keys of the namespace: records, queue, and counts."""
    found: Any = client.scan_iter(f"*{settings.namespace}*")
    return sorted(key.decode() for key in found)


def subscribers(client: redis.Redis, settings: Settings) -> int:
    """Number of connections that listen for jobs to end."""
    channel = names.Keys(settings.namespace).done
    replies: Any = client.pubsub_numsub(channel)
    return int(dict(replies)[channel.encode()])


def await_subscribers(client: redis.Redis, settings: Settings, number: int) -> None:
    """Return once exactly so many listen."""
    wait_until(
        lambda: subscribers(client, settings) == number,
        f"{number} subscribers",
        PATIENCE_S,
    )


@dataclass(frozen=True)
class _OtherChannel(names.Keys):
    @property
    def done(self) -> str:
        return f"{self.namespace}:nobody-listens"


def unheard(settings: Settings) -> Records:
    """Records whose done-messages do not reach those who wait."""
    records = Records(settings)
    records.keys = _OtherChannel(settings.namespace)
    return records


def play_worker(store: JobStore, outcome: jobs.Outcome) -> Callable[[], bool]:
    """A function that records `outcome` as soon as somebody listens for it."""
    records = store.records

    def work() -> bool:
        wait_until(
            lambda: subscribers(store.client, records.settings) > 0,
            "somebody waits for a job",
            PATIENCE_S,
        )
        store.do(begin(records, outcome.job_id))
        return store.do(records.finish(outcome))

    return work


@contextmanager
def busy_channel(client: redis.Redis, settings: Settings) -> Iterator[None]:
    """Ten jobs of others end each second."""
    channel, over = names.Keys(settings.namespace).done, threading.Event()

    def publish() -> None:
        while not over.wait(0.1):
            client.publish(channel, "job-of-another")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def answering_worker(settings: Settings) -> Iterator[None]:
    """A worker that answers when the workers are asked who is there, and scores nothing."""
    app = Celery("answering", set_as_current=False, backend="disabled://")
    app.conf.update(names.celery_options(settings))
    over = threading.Event()
    connection = app.connection_for_read()
    node = app.control.mailbox.Node(
        "played@test", handlers={"ping": lambda _: {"ok": "pong"}}, channel=connection.channel()
    )

    def answer() -> None:
        node.listen(callback=node.handle_message)
        while not over.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        connection.release()
        app.close()
