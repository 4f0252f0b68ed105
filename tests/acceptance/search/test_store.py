"""Chunks are embedded once, kept whole, and never mixed with those of another model or program."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from examples.search.types import Hit
from examples.search.vector_store import MilvusStore, UnknownCollection, VectorStoreError
from tests.search_app import WordEmbedder
from worker.inprocess import DocumentChunkMetadata, DocumentChunkWithScore, Source

Open = Callable[[WordEmbedder], MilvusStore]


def chunk(name: str, text: str) -> DocumentChunkWithScore:
    metadata = DocumentChunkMetadata(source=Source.PDF, document_id="manual", page_number=7)
    return DocumentChunkWithScore(chunk_id=name, text=text, metadata=metadata)


CHUNKS = [chunk("chess", "play chess"), chunk("mail", "a mail client"), chunk("ü", "日本語の PDF")]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Open the same file again and again, as programs do one after the other."""
    stores: list[MilvusStore] = []

    def again(embedder: WordEmbedder) -> MilvusStore:
        if stores:
            stores[-1].close()
        stores.append(MilvusStore(str(tmp_path / "milvus.db"), embedder))
        return stores[-1]

    yield again
    stores[-1].close()


def search(store: MilvusStore, query: str, top_k: int = 10) -> list[Hit]:
    return asyncio.run(store.search(query, "things", top_k))


def test_the_most_similar_chunk_comes_first_with_all_its_fields(opened: Open) -> None:
    store = opened(WordEmbedder())
    store.index("things", CHUNKS, "1")
    hits = search(store, "play a game of chess")
    assert [hit.vector_rank for hit in hits] == [1, 2, 3]
    assert hits[0].chunk == CHUNKS[0]
    scores = [hit.vector_score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.score for hit in hits] == scores


def test_top_k_is_the_number_of_hits(opened: Open) -> None:
    store = opened(WordEmbedder())
    store.index("things", CHUNKS, "1")
    assert len(search(store, "chess", top_k=2)) == 2


def test_stored_chunks_are_not_embedded_again(opened: Open) -> None:
    opened(WordEmbedder()).index("things", CHUNKS, "1")
    embedder = WordEmbedder()
    store = opened(embedder)
    store.index("things", CHUNKS, "1")
    assert embedder.embedded == 0
    assert search(store, "mail client", top_k=1)[0].chunk == CHUNKS[1]


def test_other_chunks_take_the_place_of_the_first(opened: Open) -> None:
    store = opened(WordEmbedder())
    store.index("things", CHUNKS, "1")
    store.index("things", [chunk("clock", "a clock"), chunk("tea", "tea")], "2")
    assert {hit.chunk.chunk_id for hit in search(store, "chess")} == {"clock", "tea"}


def test_so_do_the_vectors_of_another_model(opened: Open) -> None:
    opened(WordEmbedder()).index("things", CHUNKS, "1")
    other = WordEmbedder("other")
    opened(other).index("things", CHUNKS, "1")
    assert other.embedded > len(CHUNKS)


def test_a_collection_that_was_left_incomplete_is_stored_again(opened: Open) -> None:
    class Interrupted(WordEmbedder):
        def embed(self, texts: Sequence[str]) -> list[list[float]]:
            if self.embedded:
                raise KeyboardInterrupt
            return super().embed(["dimension"])

    with pytest.raises(KeyboardInterrupt):
        opened(Interrupted()).index("things", CHUNKS, "1")
    store = opened(WordEmbedder())
    store.index("things", CHUNKS, "1")
    assert len(search(store, "chess")) == 3


def test_progress_is_reported(opened: Open) -> None:
    many = [chunk(str(number), f"number {number}") for number in range(150)]
    done: list[int] = []
    opened(WordEmbedder()).index("things", many, "1", done.append)
    assert done == [100, 150]


def test_a_collection_of_another_program_is_left_alone(opened: Open) -> None:
    store = opened(WordEmbedder())
    store._client.create_collection("things", dimension=4)
    store._client.insert("things", [{"id": 1, "vector": [1.0, 0.0, 0.0, 0.0]}])
    with pytest.raises(VectorStoreError, match="'things' of another program"):
        store.index("things", CHUNKS, "1")
    assert store._client.get_collection_stats("things")["row_count"] == 1


def test_a_collection_that_is_not_there_is_named(opened: Open) -> None:
    with pytest.raises(UnknownCollection, match="'things'"):
        search(opened(WordEmbedder()), "chess")


def test_a_server_that_is_not_there_is_an_error_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(VectorStoreError, match=r"cannot open http://127.0.0.1:9"):
        MilvusStore("http://127.0.0.1:9", WordEmbedder())
    assert time.monotonic() - began < 30


def test_a_server_is_used_by_its_address(tmp_path: Path) -> None:
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(
        data_dir=str(tmp_path / "data"), host="127.0.0.1", port=0
    )
    try:
        store = MilvusStore(f"http://127.0.0.1:{port}", WordEmbedder())
        store.index("things", CHUNKS, "1")
        assert search(store, "play chess", top_k=1)[0].chunk == CHUNKS[0]
        store.close()
    finally:
        server.stop(grace=0)
        database.close()
