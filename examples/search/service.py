"""Search in two stages: fetch many candidates from Milvus, then keep the best after reranking."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from contract.errors import RerankError
from examples.search.rerankers import Reranker
from examples.search.types import Hit, SearchInput, SearchResponse
from examples.search.vector_store import MilvusStore
from worker.inprocess import PipelineSettings

logger = logging.getLogger(__name__)


class SearchService:
    """Searches collections. If reranking fails, the order of the vector search is returned."""

    def __init__(
        self,
        vector_store: MilvusStore,
        reranker: Reranker,
        pipeline: PipelineSettings,
        timeout_s: float,
    ) -> None:
        self._vector_store = vector_store
        self._reranker = reranker
        self._pipeline = pipeline
        self._timeout_s = timeout_s

    async def search(self, search_input: SearchInput) -> SearchResponse:
        """Return the best results. Raises `VectorStoreError` if the first stage fails."""
        return await self._search(search_input, self._timeout_s)

    async def search_many(self, inputs: Sequence[SearchInput]) -> list[SearchResponse]:
        """Return the results of several searches, in order.

        They run at the same time and share the processor, so each may take as long as all.
        """
        timeout_s = self._timeout_s * len(inputs)
        return await asyncio.gather(*(self._search(each, timeout_s) for each in inputs))

    async def _search(self, search_input: SearchInput, timeout_s: float) -> SearchResponse:
        began = time.perf_counter()
        hits = await self._vector_store.search(
            query=search_input.query,
            collection_id=search_input.collection_id,
            top_k=self._pipeline.vector_top_k,
        )
        found = time.perf_counter()
        response = await self._rerank(search_input.query, hits, timeout_s)
        first = hits[: self._pipeline.reranker_top_k]
        return response.model_copy(
            update={
                "vector_results": first if search_input.compare else None,
                "vector_search_s": found - began,
                "reranking_s": time.perf_counter() - found,
            }
        )

    async def _rerank(self, query: str, hits: list[Hit], timeout_s: float) -> SearchResponse:
        top_k = self._pipeline.reranker_top_k
        reason = "Reranking is switched off."
        if self._pipeline.reranker_enabled:
            try:
                best = await self._reranker.rerank(query, hits, top_k, timeout_s)
            except TimeoutError:
                reason = f"Reranking took longer than {timeout_s:g} s."
            except RerankError as error:
                # The message can contain names of hosts and folders: it is for the log only.
                reason = f"Reranking failed: {error.code}."
                logger.warning("Reranking failed", exc_info=error)
            else:
                return _response(best.hits, model=best.model)
        return _response(hits[:top_k], reason=reason)


def _response(
    results: list[Hit], model: str | None = None, reason: str | None = None
) -> SearchResponse:
    return SearchResponse(
        results=results,
        reranked=reason is None,
        reason=reason,
        model=model,
        vector_search_s=0,
        reranking_s=0,
    )
