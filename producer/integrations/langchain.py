"""A document compressor for LangChain: pip install 'rerankq[langchain]'."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.exceptions import LangChainException
from pydantic import ConfigDict, Field

from contract.errors import RerankError
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.integrations import rankers


class RerankqCompressor(BaseDocumentCompressor):
    """Keeps the documents that are most relevant to the query, best first.

    `reranker` is a `RerankClient` (the default, with the settings of the environment) or a
    `worker.inprocess.CrossEncoderReranker`. Give an `AsyncRerankClient` as `async_client` to wait
    for queued jobs without a thread; it serves `acompress_documents` only.

    Each returned document is a copy with `relevance_score` (0 to 1) in its metadata. With
    `passages`, `relevance_passage` is the place of its best passage. Errors are raised as
    `LangChainException`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Any = Field(default_factory=RerankClient, exclude=True)
    async_client: AsyncRerankClient | None = Field(None, exclude=True)
    #: The number of documents to keep; None keeps all.
    top_n: int | None = Field(10, ge=1)
    #: The maximum wait for a queued job, in seconds; None is no limit.
    timeout_s: float | None = 300.0
    #: The tokens of the passages into which long documents are cut, or a dict: see the clients.
    passages: rankers.PassagesField = None

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """Return the most relevant documents, best first. Raises `LangChainException`."""
        texts = [document.page_content for document in documents]
        try:
            ranked = rankers.rank(self.reranker, query, texts, **self._options())
        except RerankError as error:
            raise LangChainException(str(error)) from error
        return _best(documents, ranked)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """Return what `compress_documents` returns, without blocking the event loop."""
        if self.async_client is None:
            return await asyncio.to_thread(self.compress_documents, documents, query)
        texts = [document.page_content for document in documents]
        try:
            ranked = await rankers.rank_async(self.async_client, query, texts, **self._options())
        except RerankError as error:
            raise LangChainException(str(error)) from error
        return _best(documents, ranked)

    def _options(self) -> dict[str, Any]:
        return {"top_k": self.top_n, "timeout_s": self.timeout_s, "passages": self.passages}


def _best(documents: Sequence[Document], ranked: rankers.Ranked) -> list[Document]:
    return [
        document.model_copy(
            update={
                "metadata": {
                    **document.metadata,
                    "relevance_score": each.relevance,
                    **rankers.passage_places(each),
                }
            }
        )
        for each in ranked
        for document in [documents[each.index]]
    ]
