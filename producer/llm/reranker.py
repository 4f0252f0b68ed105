"""The LLM reranker, with the methods of `worker.inprocess.CrossEncoderReranker`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from contract.errors import InvalidInput, RerankError, ScoringError
from contract.jobs import RankedDocument
from producer.llm.endpoint import Endpoint, Rating
from producer.llm.usage import Usage

logger = logging.getLogger(__name__)


class _Chunk(Protocol):
    text: str


class _Result(Protocol):
    @property
    def chunk(self) -> _Chunk: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Any: ...


R = TypeVar("R", bound=_Result)
T = TypeVar("T")


class LLMReranker:
    """Sorts results by the ratings of a large language model, one call for each document.

    `model` is a name of the endpoint's. `base_url` and `api_key` are `OPENAI_BASE_URL` and
    `OPENAI_API_KEY` by default. At most `concurrency` calls run at once. A call fails
    after `request_timeout_s` seconds, and is retried up to `max_retries` times. `timeout_s` limits
    a whole `rerank`. `parameters` are added to each call; None removes a default
    (`{"max_tokens": None, "max_completion_tokens": 500}`).

    A document that was not rated (an error, a malformed answer, or no time) is sorted last, in its
    first order. `usage` counts calls, failures and tokens.

    Raises `InvalidInput` if the extra `llm` is not installed or the API key is missing.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 8,
        max_retries: int = 2,
        request_timeout_s: float = 60.0,
        timeout_s: float | None = 300.0,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_name = model
        self._timeout_s = timeout_s
        self._endpoint = Endpoint(
            model,
            base_url=base_url,
            api_key=api_key,
            concurrency=concurrency,
            max_retries=max_retries,
            request_timeout_s=request_timeout_s,
            parameters=parameters,
        )

    @property
    def base_url(self) -> str:
        """Return the URL of the endpoint."""
        return self._endpoint.base_url

    @property
    def usage(self) -> Usage:
        """Return the counts of calls, failures and tokens so far."""
        return self._endpoint.usage.read()

    def rerank(self, query: str, results: Sequence[R], top_k: int | None = None) -> list[R]:
        """Return the results with new scores, best first, without changing the input.

        Scores are 0 to 1, and None for results that were not rated. `top_k` is the number of
        results to keep; None keeps all. Raises `InvalidInput` for a blank query or a negative
        `top_k`, `ModelUnavailable` if the endpoint refuses the key or the model, and `ScoringError`
        if no result was rated. All of them are `ValueError`s.
        """
        return _run(self.rerank_async(query, results, top_k))

    async def rerank_async(
        self, query: str, results: Sequence[R], top_k: int | None = None
    ) -> list[R]:
        """Return what `rerank` returns, without blocking the event loop."""
        ratings = await self._rate(query, [each.chunk.text for each in results], top_k)
        return [
            results[index].model_copy(update={"score": _score(ratings[index])}, deep=True)
            for index in _order(ratings)[:top_k]
        ]

    def rank(
        self, query: str, documents: Sequence[str], top_k: int | None = None
    ) -> tuple[RankedDocument, ...]:
        """Return the documents' indexes and scores, best first, as a client's job does.

        A document that was not rated has the score -1 and the reason in its metadata. Raises the
        errors of `rerank`.
        """
        ratings = _run(self._rate(query, documents, top_k))
        return tuple(
            _ranked(index, rank, ratings[index])
            for rank, index in enumerate(_order(ratings)[:top_k], start=1)
        )

    async def _rate(self, query: str, documents: Sequence[str], top_k: int | None) -> list[Rating]:
        if top_k is not None and top_k < 0:
            raise InvalidInput(f"top_k is {top_k}; it must be 0 or more, or None for all")
        if not documents or top_k == 0:
            return []
        if not query.strip():
            raise InvalidInput("the query is blank")
        began = time.perf_counter()
        ratings = await self._endpoint.rate(query, documents, self._timeout_s)
        failures = [each for each in ratings if isinstance(each, RerankError)]
        if len(failures) == len(ratings):
            raise ScoringError(
                f"{self.model_name} rated none of {len(ratings)} documents: {failures[0]}"
            ) from failures[0]
        seconds = time.perf_counter() - began
        logger.info(
            "Rated %d documents in %.3fs (model=%s)", len(ratings), seconds, self.model_name
        )
        return ratings


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also if an event loop is running in this thread already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="llm") as thread:
        return thread.submit(asyncio.run, work).result()


def _score(rating: Rating) -> float | None:
    return None if isinstance(rating, RerankError) else rating


def _order(ratings: Sequence[Rating]) -> list[int]:
    """Return the indexes, best first; equal ratings keep their order, and failures are last."""

    def key(index: int) -> float:
        score = _score(ratings[index])
        return 1.0 if score is None else -score

    return sorted(range(len(ratings)), key=key)


def _ranked(index: int, rank: int, rating: Rating) -> RankedDocument:
    if isinstance(rating, RerankError):
        reason = {"error": str(rating)}
        return RankedDocument(
            id=str(index), index=index, rank=rank, score=-1.0, relevance=0.0, metadata=reason
        )
    return RankedDocument(id=str(index), index=index, rank=rank, score=rating, relevance=rating)
