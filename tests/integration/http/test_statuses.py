"""Each fault has its status, and a body in the shape of the API that was called."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from contract import jobs
from contract.settings import Settings
from tests.integration.http.conftest import Serve, score
from tests.integration.sample_records import failure_of
from tests.integration.stand_ins import StandInWorker, answering_worker

COHERE = {"query": "a query", "documents": ["a document"]}
TEI = {"query": "a query", "texts": ["a text"]}
TOKEN = {"http_token": "a-token"}


@dataclass(frozen=True)
class Row:
    """A request, the state of the service, and the answer."""

    name: str
    status: int
    body: dict[str, Any] | bytes = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    #: The code of the failure of each job; None for a result, "" if there is no worker.
    outcome: str | None = None
    retry_after: bool = False


TABLE = [
    Row("fine", 200),
    Row("fine with a token", 200, headers={"Authorization": "Bearer a-token"}, settings=TOKEN),
    Row("not JSON", 400, body=b"{"),
    Row("not UTF-8", 400, body=b'{"query": "\xff"}'),
    Row("no deadline", 400, headers={"Request-Timeout": "soon"}),
    Row("no token", 401, settings=TOKEN),
    Row("a wrong token", 401, headers={"Authorization": "Bearer b"}, settings=TOKEN),
    Row("not a bearer token", 401, headers={"Authorization": "Basic a-token"}, settings=TOKEN),
    Row("a cancelled job", 409, outcome="cancelled"),
    Row("a large body", 413, body={"query": "q" * 2000}, settings={"http_max_body_bytes": 1024}),
    Row("many documents", 413, settings={"max_text_chars": 3}),
    Row("not declared as JSON", 415, headers={"Content-Type": "text/plain"}),
    Row("no query", 422, body={"query": ""}),
    Row("a worker that refuses the model", 422, outcome="model_not_allowed"),
    Row("a full queue", 429, settings={"max_queue_length": 1}, outcome="", retry_after=True),
    Row("a model that failed", 500, outcome="scoring_failed"),
    Row("a worker without memory", 503, outcome="out_of_memory", retry_after=True),
    Row("a model that cannot be loaded", 503, outcome="model_unavailable", retry_after=True),
    Row("no worker", 503, settings={"http_no_worker_s": 0.1}, outcome="", retry_after=True),
    Row("a time limit", 504, outcome="time_limit"),
    Row("a deadline", 504, headers={"Request-Timeout": "0.2"}, outcome=""),
]


@contextmanager
def workers(settings: Settings, outcome: str | None) -> Iterator[None]:
    """Run a worker with this outcome of every job; none if the outcome is empty."""
    if outcome == "":
        yield
        return

    def end(given: jobs.Job) -> jobs.Outcome:
        return score(given) if outcome is None else failure_of(given.id, outcome)

    with StandInWorker(settings, end):
        yield


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_fault_has_its_status_and_the_shape_of_the_api(
    serve: Serve, settings: Settings, row: Row
) -> None:
    with workers(settings, row.outcome), serve(**row.settings) as api:
        if row.name == "a full queue":
            api.post("/v1/jobs", json=COHERE)
        for path, valid in (("/v2/rerank", COHERE), ("/rerank", TEI)):
            check(row, path, send(api, path, row, valid))


def send(api: httpx.Client, path: str, row: Row, valid: dict[str, Any]) -> httpx.Response:
    headers = {"Content-Type": "application/json"} | row.headers
    if isinstance(row.body, bytes):
        return api.post(path, headers=headers, content=row.body)
    return api.post(path, headers=headers, json=valid | row.body)


def check(row: Row, path: str, answer: httpx.Response) -> None:
    assert answer.status_code == row.status, answer.text
    assert ("retry-after" in answer.headers) == row.retry_after
    if row.status == 200:
        return
    said = answer.json()
    assert set(said) == ({"error", "error_type"} if path == "/rerank" else {"message", "code"})
    assert all(isinstance(each, str) and each for each in said.values())
    assert "Traceback" not in answer.text
    if row.status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_path_or_a_method_that_there_is_not_is_said(api: httpx.Client) -> None:
    assert api.get("/v3/rerank").status_code == 404
    assert api.get("/v3/rerank").json()["error"]["code"] == "not_found"
    assert api.post("/v1/rerank/", json=COHERE).status_code == 404
    assert api.get("/v1/rerank").status_code == 405
    assert api.get("/v1/rerank").json() == {
        "message": "Method Not Allowed",
        "code": "method_not_allowed",
    }


def test_a_deadline_that_passes_cancels_the_job(serve: Serve, settings: Settings) -> None:
    with serve() as api, answering_worker(settings):
        assert api.post("/v1/rerank", json=COHERE, headers={"Request-Timeout": "0.1"}).is_error

        with StandInWorker(settings, score) as worker:
            api.post("/v1/rerank", json=COHERE | {"query": "the next"})

    assert [each.requests[0].query for each in worker.taken] == ["the next"]


def test_a_redis_that_is_away_is_an_error_in_time(serve: Serve) -> None:
    settings = {"redis_url": "redis://127.0.0.1:1/0", "redis_timeout_s": 0.5}
    began = time.monotonic()
    with serve(**settings) as api:
        answer = api.post("/v2/rerank", json=COHERE)
        health = api.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["code"] == "redis_unavailable"
    assert health.status_code == 503
    assert time.monotonic() - began < 10
