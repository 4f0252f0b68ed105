"""Messages arrive twice, broken, or never; each job is scored once, and no worker dies.

Missing and broken payloads are in `tests/acceptance/test_worker.py`.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from contract import names
from contract.errors import JobConflict
from contract.store import submissions
from producer.client import preparing
from producer.client.blocking import RerankClient
from tests.acceptance.faults.conftest import Service
from tests.documents import QUERY, SHORT, long_documents
from tests.ledger import Ledger
from tests.processes import wait_until
from tests.stub_models import PAIRS_A_SECOND

#: Longer than the lease, so that it must be renewed.
A_WHILE = long_documents(5 * PAIRS_A_SECOND)

GARBAGE = {
    "larger than a message": b'{"body": "' + b"x" * 2**20 + b'"}',
    "a list of many lists": b"[" + b"[]," * 2**20 + b"[]]",
    "no JSON": b"garbage",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "an object": b"{}",
    "no tag": b'{"properties": {}}',
    "no body": b'{"properties": {"delivery_tag": "x", "delivery_info": {}}, "headers": {}}',
    "nested too deeply": b"[" * 200_000,
    "a number without an end": b"1" * 10_000,
}


def message(service: Service, **changes: Any) -> bytes:
    """Return a message like Celery's, with changes."""
    body = base64.b64encode(json.dumps([["some-job"], {}, {}]).encode()).decode()
    envelope = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        **headers(),
        "properties": {
            "delivery_tag": f"tag-{time.monotonic_ns()}",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": service.settings.namespace},
        },
    }
    return json.dumps(envelope | changes).encode()


def put_next(service: Service, raw: bytes) -> None:
    """Put an entry where the next message is taken from."""
    service.server.admin.rpush(names.Keys(service.settings.namespace).queue, raw)


def test_a_job_whose_connections_are_cut_again_and_again_is_scored_once(
    ledger: Ledger, service: Service
) -> None:
    """Deliver messages of running jobs again, as Celery does when it reconnects."""
    job_id = ledger.submit(A_WHILE)
    ledger.under_way(job_id)

    for _ in range(4):
        service.server.hang_up()
        wait_until(service.server.has_worker, "the worker is connected again")

    assert ledger.result(job_id).provenance.attempts == 1
    # And the log does not advise to change a setting of Celery
    log = service.worker.log.read_text()
    assert "Connection to broker lost" in log
    assert "In Celery 5.1" not in log
    # And a message whose delivery was cut off does no harm after the visibility timeout
    ledger.redeliver()
    ledger.balance()


def test_jobs_that_wait_while_connections_are_cut_are_scored_once(
    ledger: Ledger, service: Service
) -> None:
    ids = [ledger.submit(long_documents(10)) for _ in range(30)]

    for _ in range(5):
        service.server.hang_up()
        wait_until(service.server.has_worker, "the worker is connected again")

    assert {ledger.result(job_id).provenance.attempts for job_id in ids} == {1}
    # And a message whose delivery was cut off does no harm after the visibility timeout
    ledger.redeliver()
    ledger.balance()


def test_a_job_that_takes_longer_than_the_visibility_timeout_is_scored_once(
    ledger: Ledger, service: Service
) -> None:
    # Given a running job
    with ledger.events() as events:
        job_id = ledger.submit(A_WHILE)
        ledger.under_way(job_id)

        # When its message is delivered again and again, to the other child
        def is_delivered_again() -> bool:
            ledger.redeliver()
            types = [event["type"] for event in events()]
            return types.count("task-received") > 2

        wait_until(is_delivered_again, "the message is delivered again and again")

    # Then it is scored once, and no message is left
    assert ledger.result(job_id).provenance.attempts == 1
    ledger.balance()


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_message_is_thrown_away(ledger: Ledger, service: Service, raw: bytes) -> None:
    said = log_of(service)
    put_next(service, raw)

    assert ledger.result(ledger.submit()).provenance.attempts == 1
    assert len(said("Discarding a malformed message")) == 1
    ledger.balance()


def log_of(service: Service) -> Callable[[str], list[str]]:
    """Return a function that returns the new log lines with a text.

    It fails if there is a traceback among them.
    """
    start = len(service.worker.log.read_text())

    def lines(text: str) -> list[str]:
        log = service.worker.log.read_text()[start:]
        assert "Traceback" not in log, log
        return [line for line in log.splitlines() if text in line]

    return lines


def encoded(body: bytes) -> dict[str, str]:
    """Return the part of a message that holds its body."""
    return {"body": base64.b64encode(body).decode()}


def headers(**changes: Any) -> dict[str, dict[str, Any]]:
    """Return the part of a message that names its task."""
    return {"headers": {"id": "some-job", "task": names.SCORE_TASK, "lang": "py"} | changes}


SIGNATURE = {"task": names.SCORE_TASK, "args": ["some-job"], "kwargs": {}, "options": {}}


def calls_back(**embedded: Any) -> dict[str, str]:
    """Return the body of a message that sends another one when its task ends."""
    return encoded(json.dumps([["some-job"], {}, embedded]).encode())


FOREIGN = {
    "unknown task": headers(task="nobody.knows"),
    "task of no name": headers(task={"a": 1}),
    "no id": {"headers": {"task": names.SCORE_TASK, "lang": "py"}},
    "id of no name": headers(id={"a": 1}),
    "no headers": {"headers": {}},
    "no object of headers": {"headers": [1]},
    "task that runs tasks": headers(task="celery.map"),
    "task that runs tasks with many arguments": headers(task="celery.starmap"),
    "task that runs tasks in chunks": headers(task="celery.chunks"),
    "task that deletes results": headers(task="celery.backend_cleanup"),
    "retries of another kind": headers(retries="often"),
    "unknown compression": headers(compression="zstd"),
    "compressed": headers(compression="application/x-gzip")
    | encoded(gzip.compress(bytes(2**20), 9)),
    "a task to send when this one ends": calls_back(callbacks=[SIGNATURE]),
    "a task to send when this one fails": calls_back(errbacks=[SIGNATURE]),
    "tasks to send in a chain": calls_back(chain=[SIGNATURE]),
    "a chord": calls_back(chord=SIGNATURE),
    "pickle": {"content-type": "application/x-pickle"},
    "undecodable": {"body": "!"},
    "no JSON": encoded(b"{no json"),
    "a number": encoded(b"7"),
    "too deep": encoded(b"[" * 200_000),
    "an object": encoded(b'{"no": "list"}'),
    "another list": encoded(b"[1]"),
    "arguments of another kind": encoded(b"[7, 8, 9]"),
    "no arguments": encoded(b"[[], {}, {}]"),
    "an argument of another kind": encoded(b'[[{"a": 1}], {}, {}]'),
    "another job's": encoded(b'[["another-job"], {}, {}]'),
    "a tag of another kind": {
        "properties": {
            "delivery_tag": {"a": 1},
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "x"},
        }
    },
}


@pytest.mark.parametrize("changes", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_message_that_is_none_of_ours_hurts_nobody(
    ledger: Ledger, service: Service, changes: dict[str, Any]
) -> None:
    said = log_of(service)
    put_next(service, message(service, **changes))

    assert ledger.result(ledger.submit()).provenance.attempts == 1
    assert len(said("Discarding a malformed message")) == 1
    assert not ledger.known("some-job")
    ledger.balance()


INSTRUCTIONS = {
    "time limits": {"timelimit": [0.01, 0.01]},
    "time limits of another kind": {"timelimit": "soon"},
    "a time at which it expires": {"expires": "2001-01-01T00:00:00+00:00"},
    "a far time": {"eta": "2999-01-01T00:00:00+00:00"},
    "no time": {"eta": "tomorrow"},
    "a far time at a second try": {"eta": "2999-01-01T00:00:00+00:00", "retries": 1},
    "a long delay": {"delay_s": 1e9, "retries": 1},
    "many retries": {"retries": 999_999},
    "another queue": {"reply_to": "elsewhere", "root_id": 7, "group": "g", "stamps": [1]},
}


@pytest.mark.parametrize("forged", INSTRUCTIONS.values(), ids=INSTRUCTIONS.keys())
def test_instructions_in_a_message_are_not_followed(
    ledger: Ledger, service: Service, forged: dict[str, Any]
) -> None:
    # Given a job, and a message for it with options that our producers never use
    said = log_of(service)
    job = preparing.job([preparing.request(QUERY, SHORT, top_k=None)], service.settings)
    ledger.store.execute(submissions.accept(ledger.store.schema, job))
    ledger.submitted.append(job.id)
    ledger.store.execute(submissions.mark_sent(ledger.store.schema, job.id))
    put_next(service, message(service, **about(job.id, **forged)))
    # Then the job is scored like any other
    assert ledger.result(job.id).provenance.attempts == 1
    ledger.balance()
    assert said("Discarding") == []


def about(job_id: str, **changes: Any) -> dict[str, Any]:
    """Return the parts of a message that name its job."""
    body = json.dumps([[job_id], {}, {}]).encode()
    return {**headers(id=job_id, **changes), **encoded(body)}


def test_messages_that_ask_for_a_far_time_do_not_stop_a_worker(
    ledger: Ledger, service: Service
) -> None:
    """Deliver more than Celery would hold: it holds each until its time, and stops at a hundred."""
    said = log_of(service)
    far = {"eta": "2999-01-01T00:00:00+00:00", "retries": 0}
    for place in range(150):
        put_next(service, message(service, **about(f"far-{place}", **far)))

    assert ledger.result(ledger.submit()).provenance.attempts == 1
    wait_until(lambda: len(said("skipped (unknown)")) == 150, "all have come")
    ledger.balance()


def test_a_message_about_a_job_that_nobody_submitted_leaves_no_record(
    ledger: Ledger, service: Service
) -> None:
    put_next(service, message(service))

    wait_until(
        lambda: "Job some-job skipped (unknown)" in service.worker.log.read_text(),
        "it came",
    )
    assert not ledger.known("some-job")
    ledger.balance()


def test_a_job_whose_message_was_spoilt_is_sent_again(ledger: Ledger, service: Service) -> None:
    # Given a stored job, with a message that cannot be decoded
    job = preparing.job([preparing.request(QUERY, SHORT, top_k=None)], service.settings)
    schema = ledger.store.schema
    ledger.store.execute(submissions.accept(schema, job))
    ledger.submitted.append(job.id)
    put_next(service, message(service, **headers(id=job.id), body="!"))
    ledger.store.execute(submissions.mark_sent(schema, job.id))

    # Then it is scored all the same
    assert ledger.result(job.id).provenance.attempts == 1
    ledger.balance()


def test_a_job_whose_message_was_lost_is_sent_again(ledger: Ledger, service: Service) -> None:
    """Kill the producer between storing a job and sending it."""
    job = preparing.job([preparing.request(QUERY, SHORT, top_k=None)], service.settings)
    ledger.store.execute(submissions.accept(ledger.store.schema, job))
    ledger.submitted.append(job.id)

    assert ledger.result(job.id).provenance.attempts == 1
    ledger.balance()


def test_a_job_that_two_producers_submit_at_once_is_scored_once(
    ledger: Ledger, service: Service
) -> None:
    # When many producers submit the same job at the same moment
    start, results = threading.Barrier(6), []

    def produce() -> None:
        with RerankClient(service.settings) as client:
            start.wait()
            client.submit(QUERY, SHORT, job_id="the-same")
            results.append(client.result("the-same", 60))

    producers = [threading.Thread(target=produce) for _ in range(6)]
    for each in producers:
        each.start()
    for each in producers:
        each.join()
    ledger.submitted.append("the-same")

    # Then all have read the same result
    assert len(results) == 6
    assert all(result == results[0] for result in results)
    assert results[0].provenance.attempts == 1
    ledger.balance()


def test_other_contents_under_a_job_id_that_is_taken_are_refused(ledger: Ledger) -> None:
    ledger.submit(job_id="taken")

    with pytest.raises(JobConflict, match="different contents"):
        ledger.submit(["something else"], job_id="taken")

    assert ledger.result("taken").provenance.pairs == len(SHORT)
    ledger.balance()
