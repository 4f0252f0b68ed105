"""Jobs are queued over HTTP, looked after, cancelled, and answered later."""

from __future__ import annotations

from typing import Any

import httpx

from contract import jobs
from contract.settings import Settings
from contract.store import outcomes
from contract.store.blocking import JobStore
from tests.integration.http.conftest import Serve, score
from tests.integration.sample_records import failure_of
from tests.integration.stand_ins import StandInWorker, begin
from tests.processes import wait_until

BODY = {"query": "a query", "documents": ["short", "a longer one"]}


def answer_of(api: httpx.Client, location: str) -> Any:
    """Return the answer once the job has ended."""
    wait_until(lambda: api.get(location).status_code != 202, "the job ends", 10)
    return api.get(location)


def test_a_job_waits_then_runs_then_has_a_result(serve: Serve, settings: Settings) -> None:
    with serve() as api:
        # Given two jobs and no worker
        first = api.post("/v1/jobs", json=BODY)
        second = api.post("/v1/jobs", json=BODY)

        # Then both wait, the second behind the first
        assert [first.status_code, second.status_code] == [202, 202]
        waiting = api.get(second.headers["location"])
        assert waiting.status_code == 202
        assert waiting.json() == {"id": second.json()["id"], "state": "queued", "queued_before": 1}
        assert waiting.headers["retry-after"] == "1"

        # When a worker comes
        with StandInWorker(settings, score):
            done = answer_of(api, second.headers["location"])

        # Then the result is there
        assert done.status_code == 200
        assert done.json()["state"] == "done"
        assert [each["index"] for each in done.json()["results"]] == [1, 0]


def test_a_job_that_a_worker_has_begun_is_running(serve: Serve, store: JobStore) -> None:
    with serve() as api:
        job_id = api.post("/v1/jobs", json=BODY).json()["id"]
        store.execute(begin(store.schema, job_id))

        assert api.get(f"/v1/jobs/{job_id}").json() == {"id": job_id, "state": "running"}


def test_documents_come_back_with_the_result_if_they_are_wanted(api: httpx.Client) -> None:
    documents = [{"text": "short", "page": 3}, "a longer one"]
    body = BODY | {"documents": documents, "return_documents": True}

    location = api.post("/v1/jobs", json=body).headers["location"]

    results = answer_of(api, location).json()["results"]
    assert [each["document"] for each in results] == [
        {"text": "a longer one"},
        {"text": "short", "page": 3},
    ]


def test_a_cancelled_job_is_cancelled_however_often(serve: Serve) -> None:
    with serve() as api:
        location = api.post("/v1/jobs", json=BODY).headers["location"]

        for _ in range(2):
            assert api.delete(location).json()["state"] == "cancelled"

        found = api.get(location)
        assert found.status_code == 200
        assert found.json()["state"] == "cancelled"
        assert found.json()["error"]["code"] == "cancelled"


def test_a_job_that_has_ended_cannot_be_cancelled(api: httpx.Client) -> None:
    location = api.post("/v1/jobs", json=BODY).headers["location"]
    answer_of(api, location)

    refused = api.delete(location)

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "job_ended"


def test_a_job_that_failed_says_why(serve: Serve, store: JobStore) -> None:
    with serve() as api:
        job_id = api.post("/v1/jobs", json=BODY).json()["id"]
        store.execute(begin(store.schema, job_id))
        store.execute(outcomes.finish(store.schema, failure_of(job_id)))

        found = api.get(f"/v1/jobs/{job_id}")

    assert found.status_code == 200
    assert found.json() == {
        "id": job_id,
        "state": "failed",
        "error": {"code": "scoring_failed", "message": "the model failed", "retryable": False},
    }


def test_the_same_key_is_one_job_and_other_contents_are_a_conflict(
    api: httpx.Client, scored: StandInWorker
) -> None:
    key = {"Idempotency-Key": "order-7"}
    # When a request is sent twice
    for _ in range(2):
        sent = api.post("/v1/jobs", json=BODY, headers=key)
        assert sent.headers["location"] == "/v1/jobs/order-7"
        answer_of(api, "/v1/jobs/order-7")

    # Then it is scored once
    assert [job.id for job in scored.taken] == ["order-7"]

    # And another one cannot have its key
    other = api.post("/v1/jobs", json=BODY | {"query": "another"}, headers=key)
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "job_conflict"


def test_an_unknown_job_is_not_found(serve: Serve) -> None:
    with serve() as api:
        for job_id in (jobs.new_job_id(), "not%20an%20id", "%00"):
            for method in ("GET", "DELETE"):
                found = api.request(method, f"/v1/jobs/{job_id}")

                assert found.status_code == 404
                assert found.json()["error"]["code"] == "job_not_found"
