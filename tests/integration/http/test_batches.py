"""A batch file is queued over HTTP, looked after, cancelled, and answered line by line."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import redis

from contract import jobs, names
from contract.settings import Settings
from tests.integration.http.conftest import Serve, score
from tests.integration.sample_records import failure_of
from tests.integration.stand_ins import StandInWorker
from tests.processes import wait_until


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    """Return a line of a batch file."""
    made = {"query": f"query {custom_id}", "documents": ["short", "a longer one"]} | body
    return {"custom_id": custom_id, "body": made}


def content(*lines: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(each)}\n" for each in lines)


def output_of(api: httpx.Client, location: str) -> list[Any]:
    """Return the lines of the output, once the batch has ended."""
    wait_until(lambda: api.get(location).status_code == 200, "the batch ends", 10)
    found = api.get(api.get(location).json()["output"])
    assert found.headers["content-type"] == "application/jsonl"
    return [json.loads(each) for each in found.text.splitlines()]


def test_a_batch_waits_and_is_then_answered_in_its_order(serve: Serve, settings: Settings) -> None:
    # Given a batch that is as large as two jobs
    lines = [line("b"), line("a", top_n=1), line("c", documents=[{"text": "one", "page": 3}])]
    lines[2]["body"]["return_documents"] = True
    with serve(max_pairs_per_job=4) as api:
        sent = api.post("/v1/batches", content=content(*lines))

        # Then it waits
        assert sent.status_code == 202
        location = sent.headers["location"]
        assert api.get(location).status_code == 202
        assert api.get(location).json() == {
            "id": sent.json()["id"],
            "state": "queued",
            "request_counts": {"total": 3, "completed": 0, "failed": 0},
            "pair_counts": {"total": 5, "completed": 0},
        }
        assert api.get(f"{location}/output").status_code == 409

        # When a worker comes, each line is answered
        with StandInWorker(settings, score):
            answers = output_of(api, location)
        assert api.get(location).json()["request_counts"] == {
            "total": 3,
            "completed": 3,
            "failed": 0,
        }

    assert [each["custom_id"] for each in answers] == ["b", "a", "c"]
    bodies = [each["response"]["body"] for each in answers]
    assert [[each["index"] for each in body["results"]] for body in bodies] == [[1, 0], [1], [0]]
    assert bodies[2]["results"][0]["document"] == {"text": "one", "page": 3}


def test_a_batch_has_a_speed_and_a_time_left_as_soon_as_a_job_is_scored(
    serve: Serve, settings: Settings
) -> None:
    # Given a batch of three jobs, and one of them is scored
    with serve(max_pairs_per_job=2) as api:
        location = api.post(
            "/v1/batches", content=content(*(line(name) for name in "abc"))
        ).headers["location"]
        with StandInWorker(settings, score, at_most=1):
            wait_until(lambda: "left_s" in api.get(location).json(), "a job is scored", 10)
        found = api.get(location).json()

        # Then the others take twice as long
        assert found["pair_counts"] == {"total": 6, "completed": 2}
        assert found["left_s"] == pytest.approx(4 / found["pairs_per_s"])

        # And at the end there is nothing left
        with StandInWorker(settings, score):
            output_of(api, location)
        assert api.get(location).json()["left_s"] == 0.0
        assert api.get(location).json()["pairs_per_s"] > 0


def test_a_job_that_failed_is_a_line_of_the_output(serve: Serve, settings: Settings) -> None:
    def end(given: jobs.Job) -> jobs.Outcome:
        failed = given.requests[0].query_id == "b"
        return failure_of(given.id) if failed else score(given)

    with serve(max_pairs_per_job=2) as api, StandInWorker(settings, end):
        location = api.post("/v1/batches", content=content(line("a"), line("b"), line("c"))).headers
        answers = output_of(api, location["location"])

    assert [each["custom_id"] for each in answers] == ["a", None, "c"]
    assert answers[1]["requests"] == "2-2"
    assert answers[1]["error"] == {"code": "scoring_failed", "message": "the model failed"}


def test_batches_take_turns_although_their_callers_share_the_service(
    serve: Serve, settings: Settings, client: redis.Redis
) -> None:
    with serve() as api:
        ids = {
            api.post("/v1/batches", content=content(line(name))).json()["id"] for name in ("a", "b")
        }
    groups: Any = client.zrange(f"{names.Keys(settings.namespace).turns}6", 0, -1)
    assert {each.decode() for each in groups} == ids


def test_a_batch_can_be_cancelled(serve: Serve) -> None:
    with serve() as api:
        location = api.post("/v1/batches", content=content(line("a"))).headers["location"]

        for _ in range(2):
            assert api.delete(location).json()["state"] == "cancelled"

        (answer,) = output_of(api, location)
        assert answer["error"]["code"] == "cancelled"


def test_the_same_key_is_one_batch_and_other_contents_are_a_conflict(
    api: httpx.Client, scored: StandInWorker
) -> None:
    key = {"Idempotency-Key": "night-7"}
    for _ in range(2):
        sent = api.post("/v1/batches", content=content(line("a"), line("b")), headers=key)
        assert sent.headers["location"] == "/v1/batches/night-7"
        output_of(api, "/v1/batches/night-7")

    for other in (content(line("a")), content(line("a"), line("other"))):
        refused = api.post("/v1/batches", content=other, headers=key)
        assert refused.status_code == 409
    assert len(scored.taken) == 1
    assert len(output_of(api, "/v1/batches/night-7")) == 2


#: The body, the status, and a part of the message.
WRONG = [
    ("", 422, "the batch has no lines"),
    (content(line("a")) + "{", 400, "line 2: is not JSON"),
    ("[]", 422, "line 1: must be an object"),
    ('{"body": {}}', 422, "line 1: custom_id: is required"),
    (content(line("")), 422, "line 1: custom_id: must not be empty"),
    (content(line("a"), line("a")), 422, "line 2: custom_id: 'a' is already in line 1"),
    (content(line("a", documents=[])), 422, "line 1: body.documents: "),
    (content(line("a", documents=["", 7])), 422, "line 1: body.documents[1]: must be a"),
    (content(line("a"), line("b", model="bundled")), 422, "line 2: body.model: differs"),
    (content(line("a"), line("b", passages=64)), 422, "line 2: body.passages: differs"),
    (content(line("a", model="other")), 422, "model: 'other' is not available"),
    (content(line("a", query=" ")), 422, "line 1: body.query: must not be blank"),
]


def test_a_wrong_line_is_named_and_nothing_is_queued(serve: Serve, settings: Settings) -> None:
    with serve() as api, StandInWorker(settings, score) as worker:
        answers = [api.post("/v1/batches", content=text) for text, *_ in WRONG]

    for answer, (_, status, message) in zip(answers, WRONG, strict=True):
        assert answer.status_code == status
        assert message in answer.json()["error"]["message"]
    assert worker.taken == []


def test_a_job_is_no_batch(serve: Serve) -> None:
    with serve() as api:
        job_id = api.post("/v1/jobs", json=line("a")["body"]).json()["id"]

        assert api.get(f"/v1/batches/{job_id}").status_code == 404


def test_a_batch_is_no_job(api: httpx.Client) -> None:
    sent = api.post("/v1/batches", content=content(line("a")))
    output_of(api, sent.headers["location"])

    found = api.get(f"/v1/jobs/{sent.json()['id']}")

    assert found.status_code == 404
    assert "/v1/batches" in found.json()["error"]["message"]
