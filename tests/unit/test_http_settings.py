"""The settings of the HTTP service are checked, and its log has a line for each request."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi.testclient import TestClient

from contract.errors import InvalidInput
from producer.http.app import create_app
from producer.http.settings import HttpSettings


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TIMEOUT_S", "0", "must be a number"),
        ("MAX_BODY_BYTES", "1", "must be a whole number from 1,024"),
        ("MAX_WAITING", "many", "must be a whole number from 1 to"),
        ("MODEL_ALIASES", "rerank-v3.5", "an alias has the form NAME=MODEL"),
        ("MODEL_ALIASES", "=bundled", "an alias has the form NAME=MODEL"),
        ("ACCESS_LOG", "yes", "'off' or 'json'"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"RERANKQ_HTTP_{variable}", value)

    with pytest.raises(InvalidInput) as caught:
        HttpSettings.load()

    assert f"RERANKQ_HTTP_{variable}: " in str(caught.value)
    assert message in str(caught.value)


def test_tokens_and_aliases_are_lists_and_no_token_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RERANKQ_HTTP_TOKEN", " new-token , old-token,")
    monkeypatch.setenv("RERANKQ_HTTP_MODEL_ALIASES", "rerank-v3.5=default, fast = bundled")

    made = HttpSettings.load()

    assert made.http_tokens == ("new-token", "old-token")
    assert made.http_model_aliases == {"rerank-v3.5": "default", "fast": "bundled"}
    assert "old-token" not in repr(made)


@pytest.mark.parametrize(("access_log", "lines"), [("off", 0), ("json", 2)])
def test_each_request_is_a_line_of_the_log_if_that_is_wanted(
    caplog: pytest.LogCaptureFixture, access_log: str, lines: int
) -> None:
    given = {"redis_url": "redis://127.0.0.1:1/0", "http_token": "a-token"}
    app = create_app(HttpSettings.load(**given, http_access_log=access_log))
    with caplog.at_level(logging.INFO, "rerankq.http.access"), TestClient(app) as api:
        api.get("/healthz?secret=value")
        api.post("/v2/rerank", headers={"Authorization": "Bearer wrong"})

    entries = [json.loads(record.message) for record in caplog.records]
    assert [(each["path"], each["status"]) for each in entries] == [
        ("/healthz", 200),
        ("/v2/rerank", 401),
    ][:lines]
    assert all(each["seconds"] >= 0 for each in entries)
