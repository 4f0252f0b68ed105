"""The LLM reranker speaks the OpenAI protocol, and what goes wrong costs one document only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from contract.errors import InvalidInput, ModelUnavailable, ScoringError
from producer.llm import LLMReranker, prompt
from tests import llm_server
from tests.llm_server import API_KEY, MODEL, StandIn
from worker.inprocess.results import (
    DocumentChunkMetadata,
    DocumentChunkWithScore,
    QueryResult,
    Source,
)

QUERY = "how do tides work"
TEXTS = ("a recipe", "how tides work", "about tides", "how do tides work")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with llm_server.serving() as stand_in:
        yield stand_in


def reranker(server: StandIn, **options: Any) -> LLMReranker:
    given: dict[str, Any] = {"base_url": server.url, "api_key": API_KEY, **options}
    return LLMReranker(MODEL, **given)


def results() -> list[QueryResult]:
    return [
        QueryResult(
            chunk=DocumentChunkWithScore(
                chunk_id=f"c{i}",
                text=text,
                metadata=DocumentChunkMetadata(source=Source.PDF, document_id=f"d{i}"),
            ),
            score=0.5,
        )
        for i, text in enumerate(TEXTS)
    ]


def ids(ranked: list[QueryResult]) -> list[str | None]:
    return [each.chunk.chunk_id for each in ranked]


def test_results_are_sorted_by_the_model(server: StandIn) -> None:
    given = results()
    best = reranker(server).rerank(QUERY, given, top_k=3)
    assert ids(best) == ["c3", "c1", "c2"]
    assert [each.score for each in best] == [1.0, 0.8, 0.2]
    assert best[0].chunk == given[3].chunk
    assert given == results()


def test_asyncio_programs_get_the_same(server: StandIn) -> None:
    made = reranker(server)

    async def in_a_loop() -> tuple[list[QueryResult], list[QueryResult]]:
        return await made.rerank_async(QUERY, results()), made.rerank(QUERY, results())

    awaited, blocking = asyncio.run(in_a_loop())
    assert awaited == blocking == made.rerank(QUERY, results())


def test_texts_are_ranked_as_by_a_client(server: StandIn) -> None:
    best = reranker(server).rank(QUERY, TEXTS, top_k=2)
    assert [(each.index, each.rank, each.score, each.relevance) for each in best] == [
        (3, 1, 1.0, 1.0),
        (1, 2, 0.8, 0.8),
    ]


@pytest.mark.parametrize("answer", ["", "relevant", "11", "-1", "7 or 8", "[5]", "ten", "5\n6"])
def test_a_malformed_answer_fails_its_document_only(server: StandIn, answer: str) -> None:
    server.answers["Document:\nhow do tides work"] = answer
    made = reranker(server)
    best = made.rerank(QUERY, results())
    assert ids(best) == ["c1", "c2", "c0", "c3"]
    assert best[-1].score is None
    last = made.rank(QUERY, TEXTS)[-1]
    assert (last.index, last.score, last.relevance) == (3, -1.0, 0.0)
    assert "not a number from 0 to 10" in str(last.metadata)
    assert (made.usage.documents, made.usage.failed, made.usage.malformed) == (8, 2, 2)


@pytest.mark.parametrize(("answer", "score"), [("7", 0.7), (" 10.\n", 1.0), ("0/10", 0.0)])
def test_a_rating_may_be_written_in_several_ways(answer: str, score: float) -> None:
    assert prompt.read_rating(answer) == score


def test_a_refused_call_is_made_again(server: StandIn) -> None:
    server.refusals += [429, 500]
    made = reranker(server, concurrency=1)
    assert ids(made.rerank(QUERY, results())) == ["c3", "c1", "c2", "c0"]
    assert (made.usage.requests, made.usage.failed) == (6, 0)


def test_at_most_so_many_calls_run_at_once(server: StandIn) -> None:
    server.latency_s = 0.02
    reranker(server, concurrency=3).rank(QUERY, [f"text {i}" for i in range(20)])
    assert (server.calls, server.most_at_once) == (20, 3)


def test_documents_without_an_answer_in_time_are_last(server: StandIn) -> None:
    server.latency_s = 0.3
    made = reranker(server, concurrency=2, timeout_s=0.5)
    scores = [each.score for each in made.rerank(QUERY, results())]
    assert scores.count(None) == 2
    assert scores[2:] == [None, None]


def test_if_nothing_is_rated_the_error_says_why(server: StandIn) -> None:
    server.answers["Rating"] = "no"
    with pytest.raises(ScoringError, match="rated none of 4 documents: malformed answer"):
        reranker(server).rerank(QUERY, results())


def test_an_unreachable_endpoint_is_named() -> None:
    made = LLMReranker(MODEL, base_url="http://127.0.0.1:1/v1", api_key="k", max_retries=0)
    with pytest.raises(ValueError, match=r"no answer from http://127\.0\.0\.1:1/v1"):
        made.rerank(QUERY, results())


def test_a_wrong_key_or_model_ends_all_calls(server: StandIn) -> None:
    with pytest.raises(ModelUnavailable, match="refuses the API key"):
        reranker(server, api_key="wrong", concurrency=1).rank(QUERY, ["text"] * 50)
    with pytest.raises(ModelUnavailable, match="has no 'other'"):
        LLMReranker("other", base_url=server.url, api_key=API_KEY, concurrency=1).rank(
            QUERY, ["text"] * 50
        )
    assert server.calls < 50


def test_settings_are_those_of_the_openai_client(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InvalidInput, match="not configured"):
        LLMReranker(MODEL)
    monkeypatch.setenv("OPENAI_API_KEY", API_KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert LLMReranker(MODEL).rank(QUERY, TEXTS, 1)[0].index == 3


@pytest.mark.parametrize(
    ("query", "top_k", "said"), [(" ", None, "blank"), (QUERY, -1, "top_k is -1")]
)
def test_wrong_arguments_are_value_errors(
    server: StandIn, query: str, top_k: int | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        reranker(server).rerank(query, results(), top_k)
    assert server.calls == 0


def test_nothing_to_rank_makes_no_call(server: StandIn) -> None:
    made = reranker(server)
    assert made.rerank(QUERY, []) == made.rerank(QUERY, results(), 0) == []
    assert server.calls == 0


def test_no_log_has_the_key(server: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reranker(server).rerank(QUERY, results())
    with pytest.raises(ModelUnavailable):
        reranker(server, api_key="sk-another-secret").rerank(QUERY, results())
    assert "secret" not in caplog.text
    assert "Rated 4 documents" in caplog.text


def test_a_cost_follows_from_the_tokens(server: StandIn) -> None:
    made = reranker(server)
    made.rerank(QUERY, results())
    used = made.usage
    assert used.completion_tokens == 4
    assert used.prompt_tokens > 4
    assert used.cost(2.0, 8.0) == pytest.approx((2 * used.prompt_tokens + 8 * 4) / 1_000_000)
