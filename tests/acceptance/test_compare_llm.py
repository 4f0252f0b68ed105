"""A language model can be one side of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings
from tests import llm_server
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.llm_server import API_KEY, StandIn
from tests.stub_models import STUB

QUERIES = ("how tides work", "a recipe for bread", "a library for tests")
DOCUMENTS = {
    "d1": "how tides work",
    "d2": "a recipe for bread",
    "d3": "a library for tests",
    "d4": "bread",
}
QRELS = "query-id\tcorpus-id\tscore\nq0\td1\t1\nq1\td2\t1\nq2\td3\t1\n"
MODELS = ("--model", STUB, "--model", "llm:stand-in")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Options that name a small collection with judgments."""
    candidates = [{"id": name, "text": text} for name, text in DOCUMENTS.items()]
    requests, qrels = tmp_path / "requests.jsonl", tmp_path / "qrels.tsv"
    requests.write_text(
        "".join(
            json.dumps({"query_id": f"q{i}", "query": query, "candidates": candidates}) + "\n"
            for i, query in enumerate(QUERIES)
        )
    )
    qrels.write_text(QRELS)
    return ("--input", str(requests), "--qrels", str(qrels))


@pytest.fixture
def server() -> Iterator[StandIn]:
    with llm_server.serving() as stand_in:
        yield stand_in


@pytest.fixture
def environment(stub_service: Settings, server: StandIn) -> dict[str, str]:
    endpoint = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": API_KEY}
    return environment_of(stub_service) | endpoint


def test_a_language_model_is_compared_with_a_cross_encoder(
    environment: dict[str, str], files: tuple[str, ...], server: StandIn
) -> None:
    done = rerankq("compare", *files, *MODELS, "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["a"]["model"], report["b"]["model"]) == (STUB, "llm:stand-in")
    assert (report["queries"], report["pairs"]) == (3, 12)
    assert report["measures"]["b"]["nDCG@10"] == 1.0
    assert server.calls == 12 + 1  # one call finds out whether the endpoint answers
    assert f"{server.url}/: 13 requests" in done.stderr
    assert API_KEY not in done.stderr + done.stdout


def test_malformed_answers_are_counted(
    environment: dict[str, str], files: tuple[str, ...], server: StandIn
) -> None:
    server.answers["Document:\nbread"] = "I cannot say"
    done = rerankq("compare", *files, *MODELS, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "3 documents were not rated and are ranked last" in done.stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"OPENAI_API_KEY": ""}, "the LLM endpoint is not configured"),
        ({"OPENAI_API_KEY": "wrong"}, "refuses the API key"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "no answer from http://127.0.0.1:1/v1"),
    ],
)
def test_an_endpoint_that_cannot_serve_is_found_before_anything_is_scored(
    environment: dict[str, str], files: tuple[str, ...], changed: dict[str, str], said: str
) -> None:
    done = rerankq("compare", *files, *MODELS, environment=environment | changed)
    assert done.returncode not in (0, None)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_model_that_the_endpoint_does_not_have_is_named(
    environment: dict[str, str], files: tuple[str, ...]
) -> None:
    models = ("--model", "llm:stand-in", "--model", "llm:other")
    done = rerankq("compare", *files, *models, environment=environment)
    assert done.returncode not in (0, None)
    assert "has no 'other'" in done.stderr
