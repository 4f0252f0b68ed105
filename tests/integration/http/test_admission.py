"""Tokens, limits, hang-ups and probes of the HTTP service."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import httpx
import pytest
import redis

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from contract.store import statuses
from contract.store.blocking import JobStore
from producer.http import auth
from tests.integration.http.conftest import Serve, score
from tests.integration.stand_ins import StandInWorker, answering_worker
from tests.processes import wait_until

TOKENS = {"http_token": "old, new"}
BODY = {"query": "a query", "documents": ["a document"]}


def test_any_of_several_tokens_is_accepted_and_nothing_else(
    serve: Serve, scored: StandInWorker
) -> None:
    with serve(**TOKENS) as api:
        for token in ("old", "new"):
            headers = {"Authorization": f"bearer {token}"}
            assert api.post("/v2/rerank", json=BODY, headers=headers).status_code == 200

        for wrong in ("", "Bearer", "Bearer old,new", "Bearer öld", "Basic old"):
            given = httpx.Headers({b"Authorization": wrong.encode()})
            assert api.post("/v2/rerank", json=BODY, headers=given).status_code == 401


def test_every_path_but_the_probes_needs_a_token(serve: Serve) -> None:
    with serve(**TOKENS) as api:
        for method, path in (("POST", "/v2/rerank"), ("GET", "/metrics"), ("GET", "/v1/jobs/1")):
            assert api.request(method, path).status_code == 401
        assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_without_a_token_this_machine_alone_can_reach_the_service(host: str) -> None:
    auth.check_exposure(host, ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "example.org"])  # noqa: S104
def test_without_a_token_other_machines_cannot(host: str) -> None:
    auth.check_exposure(host, ("a-token",))
    with pytest.raises(InvalidInput, match="RERANKQ_HTTP_TOKEN"):
        auth.check_exposure(host, ())


def test_a_body_is_limited_even_if_its_size_is_not_announced(serve: Serve) -> None:
    with serve(http_max_body_bytes=1024) as api:
        chunks = iter([b'{"query": "', b"q" * 1024, b'", "documents": ["a"]}'])
        answer = api.post(
            "/v2/rerank", content=chunks, headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_more_requests_than_may_wait_are_refused(
    serve: Serve, settings: Settings, client: redis.Redis, store: JobStore
) -> None:
    with serve(http_max_waiting=1) as api, answering_worker(settings):
        # Given a request that waits
        answers: list[httpx.Response] = []
        waiting = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{api.base_url}/v2/rerank", json=BODY))
        )
        waiting.start()
        wait_until(lambda: bool(client.zcard(store.schema.keys.queued)), "it is queued", 10)

        # Then another one is refused
        refused = api.post("/v2/rerank", json=BODY)
        assert refused.status_code == 429
        assert refused.headers["retry-after"]

        # And the first is answered
        with StandInWorker(settings, score):
            waiting.join(30)
    assert answers[0].status_code == 200


def test_a_caller_who_hangs_up_cancels_the_job(
    serve: Serve, settings: Settings, client: redis.Redis, store: JobStore
) -> None:
    with serve() as api, answering_worker(settings):
        # Given a request that waits
        connection = http.client.HTTPConnection("127.0.0.1", api.base_url.port or 0, timeout=10)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v2/rerank", b'{"query": "q", "documents": ["a"]}', headers)
        keys = store.schema.keys
        wait_until(lambda: bool(client.zcard(keys.queued)), "it is queued", 10)
        queued: Any = client.zrange(keys.queued, 0, 0)

        # When its caller hangs up
        connection.close()

        # Then the job is cancelled
        job_id = queued[0].decode()
        wait_until(
            lambda: (
                store.execute(statuses.fetch(store.schema, job_id)).state is jobs.JobState.CANCELLED
            ),
            "it is cancelled",
            10,
        )


def test_a_service_that_is_stopped_answers_the_requests_that_it_has(
    serve: Serve, settings: Settings, client: redis.Redis, store: JobStore
) -> None:
    answers: list[httpx.Response] = []
    stopping = threading.Event()

    def outcome(job: jobs.Job) -> jobs.JobResult:
        assert stopping.wait(10)
        return score(job)

    with StandInWorker(settings, outcome):
        # Given a request whose job has begun
        with serve() as api:
            url = f"{api.base_url}/v2/rerank"
            waiting = threading.Thread(target=lambda: answers.append(httpx.post(url, json=BODY)))
            waiting.start()
            wait_until(lambda: bool(client.zcard(store.schema.keys.running)), "it has begun", 10)

            # When the service is stopped, and the job ends a little later
            threading.Timer(0.5, stopping.set).start()
        waiting.join(30)

    # Then the request is answered
    assert [each.status_code for each in answers] == [200]


def test_a_request_that_is_unanswered_when_the_service_ends_may_be_sent_again(
    serve: Serve, settings: Settings, client: redis.Redis, store: JobStore
) -> None:
    answers: list[httpx.Response] = []
    with answering_worker(settings):
        # Given a request that waits
        with serve(grace_s=1) as api:
            url = f"{api.base_url}/v2/rerank"
            waiting = threading.Thread(target=lambda: answers.append(httpx.post(url, json=BODY)))
            waiting.start()
            keys = store.schema.keys
            wait_until(lambda: bool(client.zcard(keys.queued)), "it is queued", 10)

            # When the service is stopped, and its time is over
        waiting.join(30)

    # Then the answer is 503, and the job is cancelled
    (answer,) = answers
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "stopping"
    assert not client.zcard(keys.queued)


def test_a_service_is_ready_only_with_a_worker_that_has_its_model(
    serve: Serve, settings: Settings
) -> None:
    with serve() as api:
        assert api.get("/healthz").json() == {"status": "ok"}
        assert (api.head("/healthz").status_code, api.head("/readyz").status_code) == (200, 503)
        alone = api.get("/readyz")
        assert (alone.status_code, alone.json()["message"]) == (503, "no worker answers")

        for ready, status in ((0, 503), (2, 200)):
            with answering_worker(settings, {"children": 2, "ready": ready, "model": "bundled"}):
                found = api.get("/readyz")
            assert found.status_code == status
            workers = {"children": 2, "ready": ready, "model": "bundled"}
            assert found.json()["workers"] == {"played@test": workers}


def test_the_metrics_of_all_workers_and_of_the_requests_are_served(api: httpx.Client) -> None:
    api.post("/v2/rerank", json=BODY)

    text = api.get("/metrics").text

    assert 'rerankq_http_requests_total{path="/v2/rerank",status="200"} 1.0' in text
    assert 'rerankq_http_request_seconds_count{path="/v2/rerank"} 1.0' in text
    assert "rerankq_http_requests_waiting 1.0" in text  # the one for the metrics
    assert "rerankq_redis_up 1.0" in text
    assert 'rerankq_jobs{state="queued"} 0.0' in text


def test_metrics_say_that_redis_is_away(serve: Serve) -> None:
    with serve(redis_url="redis://127.0.0.1:1/0", redis_timeout_s=0.5) as api:
        found = api.get("/metrics")

    assert found.status_code == 200
    assert "rerankq_redis_up 0.0" in found.text


def test_the_description_has_an_example_for_each_request(serve: Serve) -> None:
    from producer.http import cohere  # imports FastAPI, which other processes do not import

    with serve() as api:
        described = api.get("/openapi.json").json()

    assert {"/v1/rerank", "/v2/rerank", "/rerank", "/v1/jobs", "/v1/batches"} <= set(
        described["paths"]
    )
    schemas = described["components"]["schemas"]
    assert not any(
        "HTTPValidationError" in json.dumps(each) for each in described["paths"].values()
    )
    assert schemas["RerankBody"]["examples"]
    cohere.RerankAnswer.model_validate(schemas["RerankAnswer"]["examples"][0])
    assert schemas["TeiBody"]["examples"]
    batch = described["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
    assert batch["application/jsonl"]["example"]["custom_id"]
