"""The samples of the reference's documentation run, with only their imports changed.

`SAMPLES` lists them. Each has a test or more, whose names begin with the number of the sample. The
names of models on the hub find the bundled model in a cache, because tests have no network.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from contract.models import DEFAULT_MODEL
from examples.search.collection import Collection
from examples.search.rerankers import InProcessReranker
from examples.search.service import SearchService
from examples.search.types import SearchInput, SearchResponse
from examples.search.vector_store import MilvusStore
from tests.search_app import QUERY, WordEmbedder, post, served, small_collection
from worker.engine.model_paths import bundled_path
from worker.inprocess import (
    CrossEncoderReranker,
    DocumentChunkMetadata,
    DocumentChunkWithScore,
    PipelineSettings,
    QueryResult,
    Source,
)

SAMPLES = {
    1: "rerank and print the best results",
    2: "search, then rerank, asynchronously",
    3: "choose another model, by name or by folder",
    4: "the search service",
    5: "the configuration of the pipeline",
    6: "download the model when an image is built",
    7: "return the results of the vector search after an error",
    8: "log in detail",
    9: "try the reranker by hand",
    10: "an endpoint of FastAPI",
    11: "rerank many queries at once",
    12: "load the model at startup",
    13: "migrate from an LLM reranker",
}
TINY = "cross-encoder/ms-marco-TinyBERT-L-2-v2"
LARGE = "cross-encoder/ms-marco-MiniLM-L-12-v2"
TEXTS = (
    "A mail transfer agent delivers messages to local users.",
    "a viewer for PDF documents",
    "This tool merges several PDF documents into a single file.",
    "an editor of sound files",
)
BEST = TEXTS[2]


def test_every_sample_has_a_test() -> None:
    tests = [name for name in globals() if name.startswith("test_sample_")]
    assert {int(name.split("_")[2]) for name in tests} == set(SAMPLES)


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Hugging Face cache with the bundled model under the names of the three models."""
    cache = tmp_path_factory.mktemp("cache")
    for name in (DEFAULT_MODEL, TINY, LARGE):
        stored = cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(bundled_path(), stored / "snapshots" / ("0" * 40))
        (stored / "refs").mkdir()
        (stored / "refs" / "main").write_text("0" * 40)
    return cache


@pytest.fixture(autouse=True)
def models_of_the_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(hub_cache))
    # A warm-up scores the longest pairs.
    monkeypatch.setenv("RERANKQ_MAX_LENGTH", "64")
    monkeypatch.setenv("RERANKQ_MAX_BATCH_TOKENS", "2048")


@pytest.fixture
def results() -> list[QueryResult]:
    return [
        QueryResult(
            chunk=DocumentChunkWithScore(
                chunk_id=f"chunk-{place}",
                text=text,
                metadata=DocumentChunkMetadata(source=Source.PDF, document_id="manual"),
            ),
            score=0.9 - place / 10,
        )
        for place, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection(small_collection(tmp_path_factory.mktemp("collection")))


@pytest.fixture(scope="module")
def vector_store(
    collection: Collection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MilvusStore]:
    made = MilvusStore(str(tmp_path_factory.mktemp("milvus") / "milvus.db"), WordEmbedder())
    made.index(collection.id, collection.chunks(), collection.fingerprint)
    yield made
    made.close()


def texts(reranked: list[QueryResult]) -> list[str]:
    return [each.chunk.text for each in reranked]


def test_sample_1_basic(results: list[QueryResult], capsys: pytest.CaptureFixture[str]) -> None:
    reranker = CrossEncoderReranker()
    reranked_results = reranker.rerank(query=QUERY, results=results, top_k=10)
    for result in reranked_results:
        print(f"Score: {result.score:.4f}")  # noqa: T201
        print(f"Text: {result.chunk.text[:100]}...")  # noqa: T201

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[1] == f"Text: {BEST}..."
    scores = [float(line.removeprefix("Score: ")) for line in lines[::2]]
    assert scores == sorted(scores, reverse=True)


def test_sample_2_asynchronous(vector_store: MilvusStore) -> None:
    async def search_and_rerank() -> list[QueryResult]:
        vector_results: Any = await vector_store.search(
            query=QUERY, collection_id="packages", top_k=100
        )
        assert len(vector_results) == 60
        reranker = CrossEncoderReranker()
        return await reranker.rerank_async(query=QUERY, results=vector_results, top_k=10)

    found = asyncio.run(search_and_rerank())
    assert len(found) == 10
    assert "PDF" in found[0].chunk.text


@pytest.mark.parametrize("name", [TINY, LARGE])
def test_sample_3_other_models(name: str, results: list[QueryResult]) -> None:
    reranker = CrossEncoderReranker(model_name=name)
    assert reranker.model_name == name
    assert texts(reranker.rerank(QUERY, results, top_k=1)) == [BEST]


def test_sample_3_a_local_folder(tmp_path: Path, results: list[QueryResult]) -> None:
    folder = shutil.copytree(bundled_path(), tmp_path / "fine-tuned-model")
    reranker = CrossEncoderReranker(model_name=str(folder))
    assert texts(reranker.rerank(QUERY, results, top_k=1)) == [BEST]


def test_sample_4_the_search_service(vector_store: MilvusStore) -> None:
    class PlainSearchService:
        """The reference's service, line by line."""

        def __init__(self, pipeline_config: PipelineSettings) -> None:
            self.vector_store = vector_store
            self.pipeline_config = pipeline_config
            self.reranker = CrossEncoderReranker(model_name=pipeline_config.reranker_model)

        async def search(self, search_input: SearchInput) -> list[Any]:
            results: Any = await self.vector_store.search(
                query=search_input.query, collection_id=search_input.collection_id, top_k=100
            )
            if self.pipeline_config.reranker_enabled:
                results = await self.reranker.rerank_async(
                    query=search_input.query, results=results, top_k=10
                )
            return list(results)

    pipeline = PipelineSettings()
    asked = SearchInput(query=QUERY)
    plain = asyncio.run(PlainSearchService(pipeline).search(asked))
    ours = SearchService(vector_store, InProcessReranker(pipeline.reranker_model), pipeline, 60)
    found = asyncio.run(ours.search(asked))
    assert isinstance(found, SearchResponse)
    assert found.results == plain
    assert len(plain) == 10


def test_sample_5_the_pipeline_configuration() -> None:
    config = {
        "reranker_enabled": True,
        "reranker_model": "cross-encoder/ms-marco-MiniLM-L-6-v2",
        "reranker_top_k": 10,
        "vector_top_k": 100,
    }
    assert PipelineSettings.model_validate(config).model_dump() == config
    assert PipelineSettings() == PipelineSettings.model_validate(config)


def test_sample_6_download_when_an_image_is_built() -> None:
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder("cross-encoder/ms-marco-MiniLM-L-6-v2")
    assert encoder.predict([(QUERY, BEST)]).shape == (1,)


def search_with_fallback(
    reranker: CrossEncoderReranker, vector_results: list[QueryResult]
) -> list[QueryResult]:
    try:
        return reranker.rerank(query=QUERY, results=vector_results)
    except ValueError as error:
        logging.getLogger(__name__).error("Reranking failed: %s", error)
        return vector_results


def test_sample_7_errors(results: list[QueryResult], caplog: pytest.LogCaptureFixture) -> None:
    broken = CrossEncoderReranker("/nowhere/at-all")
    assert search_with_fallback(broken, results) is results
    assert "Reranking failed: Reranking failed for model at-all: " in caplog.text
    assert texts(search_with_fallback(CrossEncoderReranker(), results))[0] == BEST


def test_sample_8_debug_logging(
    results: list[QueryResult], capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        logging.basicConfig(level=logging.DEBUG)
        CrossEncoderReranker("stub").rerank(QUERY, results, top_k=2)
    finally:
        root.handlers[:], root.level = before, level
    assert "Reranked 4 results → 2 results in 0.0" in capsys.readouterr().err


def test_sample_9_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    metadata = DocumentChunkMetadata(source=Source.PDF, document_id="doc1")
    chunk = DocumentChunkWithScore(
        chunk_id="1", text="Machine learning is a subset of AI", metadata=metadata
    )
    result = QueryResult(chunk=chunk, score=0.85)
    reranker = CrossEncoderReranker()
    reranked = reranker.rerank("What is ML?", [result])
    print(f"Original: {result.score}, Reranked: {reranked[0].score}")  # noqa: T201

    original, score = capsys.readouterr().out.split(", Reranked: ")
    assert original == "Original: 0.85"
    assert float(score) == reranked[0].score != 0.85


class Asked(BaseModel):
    query: str
    collection_id: str


def search_app(vector_store: MilvusStore, reranker: CrossEncoderReranker) -> FastAPI:
    app = FastAPI()

    @app.post("/search")
    async def search(request: Asked) -> dict[str, list[QueryResult]]:
        vector_results: Any = await vector_store.search(
            query=request.query, collection_id=request.collection_id, top_k=100
        )
        reranked = await reranker.rerank_async(
            query=request.query, results=vector_results, top_k=10
        )
        return {"results": reranked}

    return app


def test_sample_10_an_endpoint(vector_store: MilvusStore) -> None:
    reranker = CrossEncoderReranker()
    with served(search_app(vector_store, reranker)) as url:
        answer = post(f"{url}/search", {"query": QUERY, "collection_id": "packages"})
    found: Any = asyncio.run(vector_store.search(QUERY, "packages", 100))
    expected = reranker.rerank(QUERY, found, top_k=10)
    assert [(each["chunk"]["chunk_id"], each["score"]) for each in answer["results"]] == [
        (each.chunk.chunk_id, each.score) for each in expected
    ]


def test_sample_11_many_queries(results: list[QueryResult]) -> None:
    reranker = CrossEncoderReranker()
    queries = [QUERY, "deliver mail messages to users", "edit a sound file"]

    async def together() -> list[list[QueryResult]]:
        return await asyncio.gather(
            *[reranker.rerank_async(query, results, top_k=10) for query in queries]
        )

    best = [found[0].chunk.text for found in asyncio.run(together())]
    assert best == [BEST, TEXTS[0], TEXTS[3]]


def test_sample_12_startup(
    tmp_path: Path, results: list[QueryResult], caplog: pytest.LogCaptureFixture
) -> None:
    model = str(shutil.copytree(bundled_path(), tmp_path / "not-loaded-yet"))

    # FastAPI has deprecated the event handlers of the sample; a lifespan handler replaces them.
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.reranker = CrossEncoderReranker(model, warm=True)
        yield

    app = FastAPI(lifespan=lifespan)
    with caplog.at_level(logging.INFO), served(app):
        assert f"Loading cross-encoder model: {model}" in caplog.text
        caplog.clear()
        assert texts(app.state.reranker.rerank(QUERY, results))[0] == BEST
        assert "Loading" not in caplog.text


class LLMReranker:
    """A stand-in for the reranker to migrate from: it has the same call, and no model."""

    async def rerank(self, query: str, results: list[QueryResult], top_k: int) -> list[QueryResult]:
        return results[:top_k]


def test_sample_13_migration(results: list[QueryResult]) -> None:
    async def before() -> list[QueryResult]:
        llm_reranker = LLMReranker()
        return await llm_reranker.rerank(QUERY, results, top_k=10)

    async def after() -> list[QueryResult]:
        cross_encoder_reranker = CrossEncoderReranker()
        return await cross_encoder_reranker.rerank_async(QUERY, results, top_k=10)

    assert sorted(texts(asyncio.run(before()))) == sorted(texts(asyncio.run(after())))
    assert texts(asyncio.run(after()))[0] == BEST
