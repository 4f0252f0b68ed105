"""The second stage, in either of two ways: in this process, or through the queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, cast

from contract.jobs import Candidate
from examples.search.types import Hit
from producer import AsyncRerankClient
from worker.inprocess import CrossEncoderReranker, QueryResult


@dataclass(frozen=True)
class Reranked:
    """The best hits with new scores, and the model that scored them."""

    hits: list[Hit]
    model: str


class Reranker(Protocol):
    """Reorders hits. Raises `RerankError`, or `TimeoutError` after `timeout_s` seconds."""

    async def rerank(self, query: str, hits: list[Hit], top_k: int, timeout_s: float) -> Reranked:
        """Return the `top_k` best hits."""

    async def warm_up(self) -> None:
        """Prepare for the first call."""

    async def close(self) -> None:
        """Release what the reranker uses."""


class InProcessReranker:
    """Runs the model in this process."""

    def __init__(self, model: str) -> None:
        self._reranker = CrossEncoderReranker(model)

    async def warm_up(self) -> None:
        """Load the model. Raises `ScoringError` if that fails."""
        await asyncio.to_thread(self._reranker.warm_up)

    async def rerank(self, query: str, hits: list[Hit], top_k: int, timeout_s: float) -> Reranked:
        """Return the best hits. After a timeout, the thread still finishes its work."""
        results = cast(list[QueryResult], hits)
        async with asyncio.timeout(timeout_s):
            best = await self._reranker.rerank_async(query=query, results=results, top_k=top_k)
        return Reranked(cast(list[Hit], best), self._reranker.model_name)

    async def close(self) -> None:
        """Do nothing: the models belong to the process."""


class QueueReranker:
    """Submits a job to the workers, and awaits its result."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._client = AsyncRerankClient()

    async def warm_up(self) -> None:
        """Do nothing: workers load their models before their first job."""

    async def rerank(self, query: str, hits: list[Hit], top_k: int, timeout_s: float) -> Reranked:
        """Return the best hits. After a timeout, the job is cancelled."""
        candidates = [
            Candidate(id=str(hit.vector_rank), text=hit.chunk.text, score=hit.vector_score)
            for hit in hits
        ]
        result = await self._client.rerank(
            query, candidates, top_k=top_k, model=self._model, timeout=timeout_s
        )
        best = [
            hits[document.index].model_copy(update={"score": document.score})
            for document in result.documents
        ]
        return Reranked(best, result.provenance.model)

    async def close(self) -> None:
        """Close the connection to Redis."""
        await self._client.aclose()
