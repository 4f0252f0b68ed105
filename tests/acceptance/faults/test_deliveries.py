"""Messages arrive twice, broken, or never; each job is scored once, and no worker minds.

Payloads that are missing or broken are in `tests/acceptance/test_worker.py`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import pytest

from contract import names
from contract.errors import JobConflict
from producer import prepare
from producer.client import RerankClient
from tests.acceptance.faults.conftest import PAIRS_A_SECOND, Service
from tests.acceptance.faults.parts import QUERY, SHORT, Ledger, long_documents
from tests.processes import wait_until

#: Longer than the lease, so that it has to be renewed.
A_WHILE = long_documents(5 * PAIRS_A_SECOND)

GARBAGE = {
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
    """A message as Celery sends it, with changes."""
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
    """Put something where the next message is taken from."""
    service.server.admin.rpush(names.Keys(service.settings.namespace).queue, raw)


def test_a_job_whose_connections_are_cut_again_and_again_is_scored_once(
    ledger: Ledger, service: Service
) -> None:
    """At each reconnection Celery puts the messages of running jobs back on the queue."""
    job_id = ledger.submit(A_WHILE)
    ledger.under_way(job_id)

    for _ in range(4):
        service.server.hang_up()
        time.sleep(0.7)

    assert ledger.result(job_id).provenance.attempts == 1
    ledger.balance()


def test_jobs_that_wait_while_connections_are_cut_are_scored_once(
    ledger: Ledger, service: Service
) -> None:
    ids = [ledger.submit(long_documents(10)) for _ in range(30)]

    for _ in range(5):
        service.server.hang_up()
        time.sleep(0.3)

    assert {ledger.result(job_id).provenance.attempts for job_id in ids} == {1}
    ledger.balance()


def test_a_job_that_takes_longer_than_the_visibility_timeout_is_scored_once(
    ledger: Ledger, service: Service
) -> None:
    # Given a job under way
    with ledger.events() as events:
        job_id = ledger.submit(A_WHILE)
        ledger.under_way(job_id)

        # When its message is delivered again and again, to the other child
        for _ in range(3):
            time.sleep(0.5)
            ledger.redeliver()

        def deliveries() -> int:
            return sum(event["type"] == "task-received" for event in events())

        wait_until(lambda: deliveries() > 1, "the message is there again")

    # Then it is scored once, and no message is left
    assert ledger.result(job_id).provenance.attempts == 1
    ledger.balance()


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_message_is_thrown_away(ledger: Ledger, service: Service, raw: bytes) -> None:
    put_next(service, raw)

    assert ledger.result(ledger.submit()).provenance.attempts == 1
    ledger.balance()


def encoded(body: bytes) -> dict[str, str]:
    """The part of a message that holds its body."""
    return {"body": base64.b64encode(body).decode()}


def headers(**changes: Any) -> dict[str, dict[str, Any]]:
    """The part of a message that says which task it is for."""
    return {"headers": {"id": "some-job", "task": names.SCORE_TASK, "lang": "py"} | changes}


FOREIGN = {
    "unknown task": headers(task="nobody.knows"),
    "task of no name": headers(task={"a": 1}),
    "no id": {"headers": {"task": names.SCORE_TASK, "lang": "py"}},
    "id of no name": headers(id={"a": 1}),
    "no headers": {"headers": {}},
    "no object of headers": {"headers": [1]},
    "no time": headers(eta="tomorrow"),
    "limits of another kind": headers(timelimit="soon"),
    "retries of another kind": headers(retries="often"),
    "unknown compression": headers(compression="zstd"),
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
    put_next(service, message(service, **changes))

    assert ledger.result(ledger.submit()).provenance.attempts == 1
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
    # Given a job that is on record, with a message that nobody can decode
    job = prepare.job([prepare.request(QUERY, SHORT, top_k=None)], service.settings)
    records = ledger.store.records
    ledger.store.do(records.accept(job))
    ledger.submitted.append(job.id)
    put_next(service, message(service, **headers(id=job.id), body="!"))
    ledger.store.do(records.mark_sent(job.id))

    # Then it is scored all the same
    assert ledger.result(job.id).provenance.attempts == 1
    ledger.balance()


def test_a_job_whose_message_was_lost_is_sent_again(ledger: Ledger, service: Service) -> None:
    """Its producer was killed between putting it on record and sending it."""
    job = prepare.job([prepare.request(QUERY, SHORT, top_k=None)], service.settings)
    ledger.store.do(ledger.store.records.accept(job))
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

    # Then all have read the one result
    assert len(results) == 6
    assert all(result == results[0] for result in results)
    assert results[0].provenance.attempts == 1
    ledger.balance()


def test_other_contents_under_a_job_id_that_is_taken_are_refused(ledger: Ledger) -> None:
    ledger.submit(job_id="taken")

    with pytest.raises(JobConflict, match="taken"):
        ledger.submit(["something else"], job_id="taken")

    assert ledger.result("taken").provenance.pairs == len(SHORT)
    ledger.balance()
