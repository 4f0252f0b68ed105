"""The first stage: chunks and their vectors in Milvus, embedded (Milvus Lite) or on a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples.search.embeddings import Embedder
from examples.search.types import Hit
from worker.inprocess import DocumentChunkWithScore

#: The number of chunks to embed and insert at once.
BATCH = 100
TIMEOUT_S = 10.0
#: The property of a collection that names its model and its chunks. Only this program sets it.
CONTENTS = "rerankq.contents"


class VectorStoreError(Exception):
    """Milvus is away, or refuses a request."""


class UnknownCollection(VectorStoreError):
    """There is no such collection."""


class MilvusStore:
    """Collections of chunks, searched by the similarity of their vectors to the query's."""

    def __init__(self, uri: str, embedder: Embedder, token: str = "") -> None:
        self._embedder = embedder
        # The tokenizer of an embedding model cannot be shared by threads.
        self._embedding = ThreadPoolExecutor(1, thread_name_prefix="embed")
        options: dict[str, Any] = {}
        if uri.endswith(".db"):
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
            # By default, pymilvus sends more pings than the embedded server accepts.
            options["grpc_options"] = {"grpc.keepalive_time_ms": 3_600_000}
        with _translated(f"cannot open {uri}, which another process may be using"):
            from pymilvus import MilvusClient

            self._client: Any = MilvusClient(uri=uri, token=token, timeout=TIMEOUT_S, **options)

    def close(self) -> None:
        """Disconnect from Milvus."""
        self._embedding.shutdown()
        self._client.close()

    def index(
        self,
        collection_id: str,
        chunks: Sequence[DocumentChunkWithScore],
        fingerprint: str,
        report: Callable[[int], object] = lambda done: None,
    ) -> None:
        """Store the chunks with their vectors, unless they are stored already.

        A collection of other chunks, or with the vectors of another model, is replaced if this
        program created it.
        """
        contents = f"{self._embedder.name} {fingerprint}"
        with _translated():
            if not self._is_stored(collection_id, contents, len(chunks)):
                self._create(collection_id, contents)
                for start in range(0, len(chunks), BATCH):
                    self._insert(collection_id, chunks[start : start + BATCH])
                    report(min(start + BATCH, len(chunks)))
            self._client.load_collection(collection_id)

    async def search(self, query: str, collection_id: str, top_k: int) -> list[Hit]:
        """Return the `top_k` most similar chunks, best first. Raises `VectorStoreError`."""
        loop = asyncio.get_running_loop()
        (vector,) = await loop.run_in_executor(self._embedding, self._embedder.embed, [query])
        return await asyncio.to_thread(self._nearest, vector, collection_id, top_k)

    def _nearest(self, vector: list[float], collection_id: str, top_k: int) -> list[Hit]:
        with _translated():
            if not self._client.has_collection(collection_id):
                raise UnknownCollection(f"there is no collection {collection_id!r}")
            (rows,) = self._client.search(
                collection_id, [vector], limit=top_k, output_fields=["chunk"], timeout=TIMEOUT_S
            )
        return [
            Hit(
                chunk=DocumentChunkWithScore.model_validate(row["entity"]["chunk"]),
                score=row["distance"],
                vector_rank=rank,
                vector_score=row["distance"],
            )
            for rank, row in enumerate(rows, start=1)
        ]

    def _is_stored(self, collection_id: str, contents: str, count: int) -> bool:
        if not self._client.has_collection(collection_id):
            return False
        if self._contents(collection_id) != contents:
            return False
        # An interrupted program leaves an incomplete collection behind.
        return bool(self._client.get_collection_stats(collection_id)["row_count"] == count)

    def _contents(self, collection_id: str) -> str | None:
        description = self._client.describe_collection(collection_id)
        contents: str | None = description["properties"].get(CONTENTS)
        return contents

    def _create(self, collection_id: str, contents: str) -> None:
        from pymilvus import DataType

        if self._client.has_collection(collection_id):
            if self._contents(collection_id) is None:
                raise VectorStoreError(
                    f"Milvus has a collection {collection_id!r} of another program: rename the"
                    " folder of your collection"
                )
            self._client.drop_collection(collection_id)
        schema = self._client.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("chunk", DataType.JSON)
        (vector,) = self._embedder.embed(["dimension"])
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(vector))
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection(
            collection_id,
            schema=schema,
            index_params=index,
            properties={CONTENTS: contents},
            consistency_level="Strong",
        )

    def _insert(self, collection_id: str, chunks: Sequence[DocumentChunkWithScore]) -> None:
        vectors = self._embedder.embed([chunk.text for chunk in chunks])
        rows = [
            {"id": chunk.chunk_id, "chunk": chunk.model_dump(mode="json"), "vector": vector}
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        self._client.insert(collection_id, rows)


@contextmanager
def _translated(failure: str = "Milvus failed") -> Iterator[None]:
    """Raise the errors of pymilvus as `VectorStoreError`."""
    # pymilvus would read the .env file of this repository, which is for docker-compose.
    os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        raise VectorStoreError(f"{failure}: {error.message}") from error
