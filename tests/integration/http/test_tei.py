"""Clients of text-embeddings-inference rerank, and get its answers.

Milvus reranks on its server, which these tests have not: `MILVUS` is the request that it sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from contract import jobs
from contract.settings import Settings
from tests.integration.http.conftest import Serve, score
from tests.integration.stand_ins import StandInWorker

TEXTS = ["short", "the longest of the texts", "a longer one"]


def milvus_request(function: Any, texts: list[str]) -> dict[str, Any]:
    """Return what Milvus 2.6's provider `tei` posts to `ENDPOINT/rerank` for a reranker."""
    given = function.params
    assert given["provider"] == "tei"
    made = {"query": given["queries"][0], "texts": texts}
    return made | {key: given[key] for key in ("truncate", "truncation_direction") if key in given}


def test_milvus_gets_a_score_for_each_text(api: httpx.Client) -> None:
    from pymilvus import Function, FunctionType  # slow, so other processes do not import it

    reranker = Function(
        name="reranker",
        input_field_names=["text"],
        function_type=FunctionType.RERANK,
        params={
            "reranker": "model",
            "provider": "tei",
            "queries": ["a query"],
            "endpoint": str(api.base_url),
            "truncate": True,
            "truncation_direction": "Right",
        },
    )

    answer = api.post("/rerank", json=milvus_request(reranker, TEXTS)).json()

    # Milvus sorts the answer by the index, and takes the scores.
    by_index = sorted(answer, key=lambda each: each["index"])
    assert by_index == [
        {"index": place, "score": len(text) / 700} for place, text in enumerate(TEXTS)
    ]


def test_raw_scores_and_texts_are_returned_if_they_are_wanted(api: httpx.Client) -> None:
    body = {"query": "a query", "texts": TEXTS, "raw_scores": True, "return_text": True}

    answer = api.post("/rerank", json=body).json()

    assert answer == [
        {"index": index, "score": len(TEXTS[index]) / 7, "text": TEXTS[index]}
        for index in (1, 2, 0)
    ]


@pytest.fixture
def cutting(settings: Settings) -> Iterator[None]:
    """Run a worker that cuts a document of each query, and uses a smaller model."""

    def outcome(job: jobs.Job) -> jobs.JobResult:
        made = score(job)
        (ranking,) = made.rankings
        smaller = {"downgraded": True, "reason": "out_of_memory", "model": "smaller"}
        return made.model_copy(
            update={
                "rankings": (ranking.model_copy(update={"truncated": 1}),),
                "provenance": made.provenance.model_copy(update=smaller),
            }
        )

    with StandInWorker(settings, outcome):
        yield


@pytest.mark.usefixtures("cutting")
def test_a_long_text_is_cut_unless_the_caller_forbids_it(serve: Serve) -> None:
    body = {"query": "a query", "texts": TEXTS}
    with serve() as api:
        for truncate in ({}, {"truncate": None}, {"truncate": True}):
            assert api.post("/rerank", json=body | truncate).status_code == 200
        refused = api.post("/rerank", json=body | {"truncate": False})

    assert refused.status_code == 422
    assert refused.json()["error"].startswith("texts: with the query, 1 text exceeded 512 tokens")


@pytest.mark.usefixtures("cutting")
def test_warnings_name_what_a_caller_might_not_expect(serve: Serve) -> None:
    body = {"query": "a query", "documents": TEXTS, "max_tokens_per_doc": 100}
    with serve() as api:
        answer = api.post("/v2/rerank", json=body).json()

    assert answer["model"] == "smaller"
    assert answer["usage"]["truncated"] == 1
    assert answer["meta"]["warnings"] == [
        "scored by smaller instead of bundled: out_of_memory",
        "truncated to 512 tokens: 1 document",
        "max_tokens_per_doc has no effect below the model's 512 tokens",
    ]


def test_a_name_can_mean_a_model(serve: Serve, scored: StandInWorker) -> None:
    names = {"http_model_aliases": "rerank-v3.5=default, fast = bundled"}
    body = {"query": "a query", "documents": TEXTS}
    with serve(**names) as api:
        for name in (None, "", "default", "rerank-v3.5", "fast", "bundled"):
            assert api.post("/v2/rerank", json=body | {"model": name}).status_code == 200
        unknown = api.post("/v2/rerank", json=body | {"model": "rerank-v4.0"})

    assert [job.model for job in scored.taken] == [None, None, None, None, "bundled", "bundled"]
    assert "rerank-v3.5, fast" in unknown.json()["message"]
