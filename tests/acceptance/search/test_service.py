"""Candidates come from Milvus and are reranked; if that fails, their order is returned."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from contract.settings import Settings
from examples.search.rerankers import QueueReranker
from examples.search.service import SearchService
from examples.search.types import Hit, SearchInput, SearchResponse
from examples.search.vector_store import MilvusStore, UnknownCollection
from tests.acceptance.conftest import environment_of
from tests.acceptance.search.conftest import pipeline, service
from tests.search_app import QUERY
from tests.stub_models import ABSENT, OTHER
from worker.inprocess import CrossEncoderReranker

#: Too slow for any timeout of these tests: 30 candidates take 15 s.
SLOW = "stub:pairs_per_s=2"


def search(searched: SearchService, query: str = QUERY, compare: bool = False) -> SearchResponse:
    return asyncio.run(searched.search(SearchInput(query=query, compare=compare)))


def candidates(store: MilvusStore, query: str = QUERY, top_k: int = 30) -> list[Hit]:
    return asyncio.run(store.search(query, "packages", top_k))


def ids(hits: list[Hit]) -> list[str | None]:
    return [hit.chunk.chunk_id for hit in hits]


class TestReranking:
    def test_the_results_are_the_best_of_the_candidates(self, store: MilvusStore) -> None:
        found = search(service(store))
        best = CrossEncoderReranker("stub").rerank(QUERY, list(candidates(store)), top_k=5)
        assert found.reranked
        assert found.reason is None
        assert found.model == "stub"
        assert ids(found.results) == [each.chunk.chunk_id for each in best]
        assert [hit.score for hit in found.results] == [each.score for each in best]

    def test_each_result_has_its_place_in_the_vector_search(self, store: MilvusStore) -> None:
        before = candidates(store)
        for hit in search(service(store)).results:
            there = before[hit.vector_rank - 1]
            assert (there.chunk, there.score) == (hit.chunk, hit.vector_score)

    def test_only_candidates_that_were_fetched_can_be_results(self, store: MilvusStore) -> None:
        found = search(service(store, vector_top_k=5))
        assert sorted(hit.vector_rank for hit in found.results) == [1, 2, 3, 4, 5]

    def test_the_order_of_the_vector_search_comes_too_if_it_is_asked_for(
        self, store: MilvusStore
    ) -> None:
        assert search(service(store)).vector_results is None
        compared = search(service(store), compare=True).vector_results
        assert compared == candidates(store)[:5]

    def test_many_searches_at_once_give_what_each_gives(self, store: MilvusStore) -> None:
        queries = [QUERY, "play chess", "edit mp3 tags", "a mail client", "read pdf"]
        searched = service(store)

        async def together() -> list[SearchResponse]:
            return await searched.search_many([SearchInput(query=query) for query in queries])

        answers = asyncio.run(together())
        assert [ids(each.results) for each in answers] == [
            ids(search(searched, query).results) for query in queries
        ]
        assert len({tuple(ids(each.results)) for each in answers}) == len(queries)

    def test_no_searches_give_no_results(self, store: MilvusStore) -> None:
        assert asyncio.run(service(store).search_many([])) == []


class TestFallingBack:
    def test_switched_off(self, store: MilvusStore) -> None:
        found = search(service(store, ABSENT, reranker_enabled=False))
        assert not found.reranked
        assert found.reason == "Reranking is switched off."
        assert found.model is None
        assert found.results == candidates(store)[:5]

    def test_a_model_that_cannot_be_loaded(
        self, store: MilvusStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            found = search(service(store, ABSENT))
        assert not found.reranked
        assert found.reason == "Reranking failed: model_unavailable."
        assert found.results == candidates(store)[:5]
        assert "Reranking failed for model stub:absent=1" in caplog.text

    def test_a_model_that_is_too_slow(self, store: MilvusStore) -> None:
        began = time.monotonic()
        found = search(service(store, SLOW, timeout_s=0.2, vector_top_k=8))
        assert not found.reranked
        assert found.reason == "Reranking took longer than 0.2 s."
        assert found.results == candidates(store)[:5]
        assert found.reranking_s < time.monotonic() - began

    def test_the_searches_of_a_batch_share_the_time_of_all(self, store: MilvusStore) -> None:
        # Four pairs take 0.2 s in each search, so that the last one waits for 0.8 s.
        searched = service(store, "stub:pairs_per_s=20", timeout_s=0.7, vector_top_k=4)
        inputs = [SearchInput(query=f"{QUERY} {number}") for number in range(4)]
        assert all(each.reranked for each in asyncio.run(searched.search_many(inputs)))

    def test_a_collection_that_is_not_there_is_an_error(self, store: MilvusStore) -> None:
        unknown = SearchInput(query=QUERY, collection_id="nowhere")
        with pytest.raises(UnknownCollection, match="'nowhere'"):
            asyncio.run(service(store).search(unknown))


class TestThroughTheQueue:
    @pytest.fixture(autouse=True)
    def settings_in_the_environment(
        self, stub_service: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in environment_of(stub_service).items():
            monkeypatch.setenv(name, value)

    def search(
        self, store: MilvusStore, model: str = "stub", timeout_s: float = 60.0
    ) -> SearchResponse:
        async def once() -> SearchResponse:
            reranker = QueueReranker(model)
            try:
                await reranker.warm_up()
                searched = SearchService(store, reranker, pipeline(), timeout_s)
                return await searched.search(SearchInput(query=QUERY))
            finally:
                await reranker.close()

        return asyncio.run(once())

    def test_the_results_are_those_of_reranking_in_process(self, store: MilvusStore) -> None:
        found, expected = self.search(store), search(service(store))
        assert found.reranked
        assert found.model == "stub"
        assert found.results == expected.results

    def test_the_model_that_scored_is_named(self, store: MilvusStore) -> None:
        assert self.search(store, OTHER).model == OTHER

    def test_a_job_that_fails_leaves_the_order_of_the_vector_search(
        self, store: MilvusStore
    ) -> None:
        found = self.search(store, ABSENT)
        assert not found.reranked
        assert found.reason == "Reranking failed: job_failed."
        assert found.results == candidates(store)[:5]

    def test_a_redis_that_is_away_leaves_it_too(
        self, store: MilvusStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RERANKQ_REDIS_URL", "redis://127.0.0.1:9/0")
        found = self.search(store)
        assert found.reason == "Reranking failed: redis_unavailable."
        assert found.results == candidates(store)[:5]

    def test_so_does_a_queue_without_a_worker(
        self, store: MilvusStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in environment_of(settings).items():
            monkeypatch.setenv(name, value)
        found = self.search(store, timeout_s=0.5)
        assert found.reason == "Reranking took longer than 0.5 s."
        assert found.results == candidates(store)[:5]
