"""A real Milvus Lite with a small collection, searched by services with stub models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from examples.search.collection import Collection
from examples.search.rerankers import InProcessReranker
from examples.search.service import SearchService
from examples.search.vector_store import MilvusStore
from tests.search_app import WordEmbedder, small_collection
from worker.inprocess import PipelineSettings


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection(small_collection(tmp_path_factory.mktemp("collection")))


@pytest.fixture(scope="session")
def store(
    collection: Collection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MilvusStore]:
    """Yield a store with the small collection."""
    made = MilvusStore(str(tmp_path_factory.mktemp("milvus") / "milvus.db"), WordEmbedder())
    made.index(collection.id, collection.chunks(), collection.fingerprint)
    yield made
    made.close()


def pipeline(model: str = "stub", **settings: Any) -> PipelineSettings:
    """Return settings that fetch 30 candidates and return 5 results."""
    given: dict[str, Any] = {"vector_top_k": 30, "reranker_top_k": 5, **settings}
    return PipelineSettings(reranker_model=model, **given)


def service(
    store: MilvusStore, model: str = "stub", timeout_s: float = 30.0, **settings: Any
) -> SearchService:
    """Return a service with a model in this process."""
    return SearchService(store, InProcessReranker(model), pipeline(model, **settings), timeout_s)
