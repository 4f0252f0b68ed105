"""Rank texts through the queue or in the caller's process: the two kinds of reranker of an adapter.

Each adapter accepts a `RerankClient`, which queues jobs for the workers, or any object with the
`rank` method of `worker.inprocess.CrossEncoderReranker`, which scores in the caller's process. This
package does not import the worker, so that programs that only queue jobs need no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Protocol, TypeAlias

from pydantic import AfterValidator

from contract.errors import RedisUnavailable
from contract.jobs import RankedDocument, Ranking
from contract.passages import Passages
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.client.options import PassagesOption

Ranked: TypeAlias = Sequence[RankedDocument]
#: How long documents are cut into passages, in a pydantic model, which then has the record.
PassagesField: TypeAlias = Annotated[PassagesOption, AfterValidator(Passages.parse)]


class InProcessReranker(Protocol):
    """A reranker without a queue, such as `worker.inprocess.CrossEncoderReranker`."""

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        passages: PassagesOption = None,
    ) -> Ranked:
        """Return the documents' indexes and scores, best first."""
        ...


Reranker: TypeAlias = RerankClient | InProcessReranker


def rank(
    reranker: Reranker,
    query: str,
    texts: Sequence[str],
    *,
    top_k: int | None,
    timeout_s: float | None,
    passages: PassagesOption,
) -> Ranked:
    """Return the `top_k` best texts (None: all), best first; nothing for no texts.

    `timeout_s` limits the wait for a queued job. Without `passages`, an in-process reranker uses
    its own. Raises a `contract.errors.RerankError`.
    """
    if not texts:
        return ()
    if isinstance(reranker, RerankClient):
        return reranker.rerank(
            query, texts, top_k=top_k, timeout=timeout_s, passages=passages
        ).documents
    return reranker.rank(query, texts, top_k, passages=passages)


async def rank_async(
    client: AsyncRerankClient,
    query: str,
    texts: Sequence[str],
    *,
    top_k: int | None,
    timeout_s: float | None,
    passages: PassagesOption,
) -> Ranked:
    """Return what `rank` returns, without blocking the event loop."""
    if not texts:
        return ()
    result = await client.rerank(query, texts, top_k=top_k, timeout=timeout_s, passages=passages)
    return result.documents


def rank_many(
    reranker: Reranker,
    queries: Sequence[tuple[str, Sequence[str]]],
    *,
    top_k: int | None,
    timeout_s: float | None,
    passages: PassagesOption,
) -> list[Ranked]:
    """Return the ranking of each query's texts; every query must have texts.

    All queries are queued at once, so that the workers share them. After an error, the jobs that
    have not ended are cancelled. `timeout_s` limits the wait for each job.
    """
    if not isinstance(reranker, RerankClient):
        return [reranker.rank(query, texts, top_k, passages=passages) for query, texts in queries]
    requests = [
        {"query": query, "candidates": list(texts), "top_k": top_k} for query, texts in queries
    ]
    batch = reranker.submit_many(requests, passages=passages)
    rankings: list[Ranking] = []
    try:
        for job_id in batch:
            rankings += reranker.result(job_id, timeout_s).rankings
    except BaseException:
        with suppress(RedisUnavailable):
            batch.cancel()
        raise
    return [ranking.documents for ranking in rankings]


def passage_places(document: RankedDocument) -> dict[str, object]:
    """Return metadata about the passage that a document's score is from, if it was cut."""
    if document.passage is None:
        return {}
    return {"relevance_passage": [document.passage.begin, document.passage.end]}
