"""Existing clients rerank over HTTP, and get what a client of the queue gets."""

from __future__ import annotations

from typing import Any

import cohere
import httpx
import pytest

from contract.passages import Passages
from tests.integration.stand_ins import StandInWorker

DOCUMENTS = ["short", "the longest of the documents", "a longer one"]


def test_cohere_s_client_of_version_two_reranks(api: httpx.Client) -> None:
    with httpx.Client() as connections:
        client = cohere.ClientV2("any", base_url=str(api.base_url), httpx_client=connections)
        answer = client.rerank(model="default", query="a query", documents=DOCUMENTS, top_n=2)

    assert [each.index for each in answer.results] == [1, 2]
    assert [each.relevance_score for each in answer.results] == [28 / 700, 12 / 700]
    assert answer.id
    assert answer.meta is not None
    assert answer.meta.tokens is not None
    assert answer.meta.tokens.input_tokens == 40


def test_cohere_s_client_of_version_one_gets_the_documents_back(api: httpx.Client) -> None:
    documents: list[str | dict[str, str]] = [{"text": "short", "page": "3"}, *DOCUMENTS[1:]]

    with httpx.Client() as connections:
        client = cohere.Client("any", base_url=str(api.base_url), httpx_client=connections)
        answer = client.rerank(query="a query", documents=documents, return_documents=True)

    assert [each.index for each in answer.results] == [1, 2, 0]
    returned = [each.document.text for each in answer.results if each.document]
    assert returned == ["the longest of the documents", "a longer one", "short"]


def test_jina_s_requests_are_answered_with_usage_and_whole_documents(
    api: httpx.Client, scored: StandInWorker
) -> None:
    body = {
        "model": "default",
        "query": "a query",
        "documents": [{"text": "short", "page": 3}, "a longer one"],
        "return_documents": True,
    }

    answer = api.post("/v1/rerank", json=body).json()

    assert [each["document"] for each in answer["results"]] == [
        {"text": "a longer one"},
        {"text": "short", "page": 3},
    ]
    assert answer["usage"] == {"total_tokens": 40, "prompt_tokens": 40, "pairs": 2, "truncated": 0}
    assert scored.taken[0].requests[0].candidates[0].text == "short"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_documents_are_cut_into_passages_and_the_answer_names_them(
    api: httpx.Client, scored: StandInWorker, path: str
) -> None:
    body: dict[str, Any] = {"query": "a query", "documents": DOCUMENTS}
    given = {"tokens": 64, "stride": 48, "aggregate": "mean-top2"}
    for passages, expected in (
        (64, Passages(tokens=64, stride=32)),
        (given, Passages(tokens=64, stride=48, aggregate="mean-top2")),
    ):
        answer = api.post(path, json=body | {"passages": passages}).json()
        assert scored.taken[-1].passages == expected
        for each in answer["results"]:
            assert each["passage"] == {"index": 1, "begin": 3, "end": 9, "count": 4}
    # Without them, the answer is as before
    for without in (body, body | {"passages": None}):
        answer = api.post(path, json=without).json()
        assert scored.taken[-1].passages is None
        assert set(answer["results"][0]) == {"index", "relevance_score"}
