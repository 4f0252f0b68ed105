"""The application answers over HTTP: results, or an error that says what is wrong."""

from __future__ import annotations

import asyncio
import importlib
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from contract.errors import ModelUnavailable
from examples.search.app import create_app
from examples.search.collection import Collection
from examples.search.settings import SearchSettings
from tests import documented
from tests.acceptance.search.conftest import pipeline
from tests.search_app import QUERY, WordEmbedder, post, refused, served
from tests.stub_models import ABSENT
from tests.web import fetch, refusal
from worker.inprocess import PipelineSettings


def app(collection: Collection, folder: Path, settings: PipelineSettings, **given: Any) -> FastAPI:
    """Return the application over the small collection, in a separate Milvus Lite."""
    used = SearchSettings(
        collection=collection.folder, milvus_uri=str(folder / "milvus.db"), **given
    )
    return create_app(used, settings, WordEmbedder())


@pytest.fixture(scope="module")
def url(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    made = app(collection, tmp_path_factory.mktemp("app"), pipeline())
    with served(made) as address:
        yield address


class TestSearch:
    def test_a_query_is_answered_with_reranked_results(self, url: str) -> None:
        found = post(f"{url}/search", {"query": QUERY})
        assert found["reranked"] is True
        assert found["reason"] is None
        assert found["model"] == "stub"
        assert len(found["results"]) == 5
        scores = [each["score"] for each in found["results"]]
        assert scores == sorted(scores, reverse=True)
        best = found["results"][0]
        assert "pdf" in best["chunk"]["text"].lower()
        assert best["chunk"]["metadata"]["document_id"] == best["chunk"]["chunk_id"]
        assert 1 <= best["vector_rank"] <= 30

    def test_many_queries_are_answered_in_order(self, url: str) -> None:
        queries = [QUERY, "play chess", "a mail client"]
        answers = post(f"{url}/searches", [{"query": query} for query in queries])
        alone = [post(f"{url}/search", {"query": query}) for query in queries]
        assert [each["results"] for each in answers] == [each["results"] for each in alone]

    def test_requests_at_the_same_time_are_all_answered_right(self, url: str) -> None:
        bodies = [{"query": f"{QUERY} number {number}"} for number in range(8)]

        async def together() -> list[Any]:
            return await asyncio.gather(
                *(asyncio.to_thread(post, f"{url}/search", body) for body in bodies)
            )

        for answer, body in zip(asyncio.run(together()), bodies, strict=True):
            assert answer["results"] == post(f"{url}/search", body)["results"]


INVALID: list[tuple[Any, str]] = [
    ({}, "query"),
    ({"query": None}, "query"),
    ({"query": " \n"}, "query"),
    ({"query": "x" * 1001}, "query"),
    ({"query": ["pdf"]}, "query"),
    ({"query": "pdf", "top_k": 5}, "top_k"),
    ({"query": "pdf", "compare": "perhaps"}, "compare"),
    ({"query": "pdf", "collection_id": 7}, "collection_id"),
    (rb'{"query": "\ud800"}', "query"),
    ([], "body"),
    (b"{not json", "body"),
    (b"\xff", "body"),
]


class TestErrors:
    @pytest.mark.parametrize(("body", "place"), INVALID)
    def test_a_request_that_is_wrong_is_refused_with_the_place(
        self, url: str, body: Any, place: str
    ) -> None:
        status, answer = refused(f"{url}/search", body)
        if isinstance(answer["detail"], str):  # text that is not JSON
            assert status == 400
            return
        assert status == 422
        (fault, *_) = answer["detail"]
        assert place in fault["loc"]
        assert fault["msg"]

    def test_a_collection_that_is_not_there(self, url: str) -> None:
        body = {"query": "pdf", "collection_id": "nowhere"}
        assert refused(f"{url}/search", body) == (
            404,
            {"detail": "there is no collection 'nowhere'"},
        )

    def test_the_name_of_a_collection_that_milvus_does_not_allow(self, url: str) -> None:
        status, _ = refused(f"{url}/search", {"query": "pdf", "collection_id": "../etc"})
        assert status in (404, 503)

    def test_too_many_queries_at_once(self, url: str) -> None:
        status, _ = refused(f"{url}/searches", [{"query": "pdf"}] * 101)
        assert status == 422

    def test_a_milvus_that_fails_is_no_fault_of_the_request(
        self, collection: Collection, tmp_path: Path
    ) -> None:
        made = app(collection, tmp_path, pipeline())
        with served(made) as address:
            made.state.service._vector_store._client.close()
            status, answer = refused(f"{address}/search", {"query": QUERY})
        assert (status, answer) == (503, {"detail": "the vector search failed"})


class TestStarting:
    def test_a_model_that_cannot_be_loaded_stops_the_start(
        self, collection: Collection, tmp_path: Path
    ) -> None:
        made = app(collection, tmp_path, pipeline(ABSENT))

        async def start() -> None:
            async with made.router.lifespan_context(made):
                raise AssertionError("started")

        with pytest.raises(ModelUnavailable, match="absent"):
            asyncio.run(start())

    def test_without_reranking_no_model_is_loaded(
        self, collection: Collection, tmp_path: Path
    ) -> None:
        made = app(collection, tmp_path, pipeline(ABSENT, reranker_enabled=False))
        with served(made) as address:
            found = post(f"{address}/search", {"query": QUERY})
        assert (found["reranked"], found["reason"]) == (False, "Reranking is switched off.")

    def test_workers_that_are_away_do_not_stop_the_start(
        self, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RERANKQ_REDIS_URL", "redis://127.0.0.1:9/0")
        made = app(collection, tmp_path, pipeline("bundled"), rerank_with="queue")
        with served(made) as address:
            found = post(f"{address}/search", {"query": QUERY})
        assert found["reason"] == "Reranking failed: redis_unavailable."
        assert len(found["results"]) == 5


def test_the_guides_program_has_its_model_loaded_before_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = documented.program("docs/guides/search-app.md").replace("bundled", "stub:scale=3")
    (tmp_path / "guides_program.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("guides_program").app
    results = [{"chunk": {"text": text}} for text in ("a clock", "play chess")]
    with caplog.at_level(logging.INFO), served(made) as address:
        assert "Loading cross-encoder model: stub:scale=3" in caplog.text
        caplog.clear()
        (best, _) = post(f"{address}/rerank?query=play%20chess", results)
    assert best["chunk"]["text"] == "play chess"
    assert "Loading" not in caplog.text


class TestPage:
    def test_the_page_and_its_files_are_served(self, url: str) -> None:
        assert "search.js" in fetch(f"{url}/")
        assert "fetch(" in fetch(f"{url}/search.js")
        assert "grid" in fetch(f"{url}/search.css")

    def test_browsers_are_told_to_load_nothing_from_other_servers(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}/", timeout=30) as response:  # noqa: S310
            policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy

    def test_sample_queries_are_offered(self, url: str, collection: Collection) -> None:
        assert collection.queries()
        assert fetch(f"{url}/queries").startswith('{"collection_id":"packages","queries":["fix')

    def test_other_files_are_not_served(self, url: str) -> None:
        assert refusal(f"{url}/../app.py") == 404
        assert refusal(f"{url}/%2e%2e/app.py") == 404
