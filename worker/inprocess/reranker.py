"""The reranker in the caller's own process, for programs that need no queue.

reranker = CrossEncoderReranker()
best = reranker.rerank("a query", results, top_k=10)
best = await reranker.rerank_async("a query", results, top_k=10)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from contract.errors import InvalidInput, ModelUnavailable, OutOfMemory, ScoringError
from contract.models import short_name
from worker.engine import Scorer, ranking
from worker.engine.scorer import failure_message
from worker.engine.scorer_cache import require_length
from worker.inprocess.models import ProcessModels, process_models
from worker.inprocess.results import QueryResult
from worker.inprocess.settings import ModelSettings

logger = logging.getLogger(__name__)


class CrossEncoderReranker:
    """Sorts results by a cross-encoder's score. Safe to share between threads.

    The model is `model_name`, else `CROSS_ENCODER_MODEL`, else ms-marco-MiniLM-L-6-v2; a local
    path and `bundled` are names too. It loads at the first use (or at `warm_up`), once a process
    for each way to run it: `device`, `dtype`, `threads`, `max_length` and `max_batch_tokens` have
    the meaning and the defaults of the worker's settings (`RERANKQ_DEVICE` and so on). No other
    setting of the service is read. Raises `InvalidInput` naming the one that does not parse.
    `models` are shared with the process's other rerankers unless others are given.
    """

    def __init__(
        self,
        model_name: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        max_length: int | None = None,
        max_batch_tokens: int | None = None,
        models: ProcessModels | None = None,
    ) -> None:
        self._models = models or process_models()
        self._settings = ModelSettings.load(
            cross_encoder_model=model_name,
            device=device,
            dtype=dtype,
            threads=threads,
            max_length=max_length,
            max_batch_tokens=max_batch_tokens,
        )
        self.model_name = self._settings.cross_encoder_model

    def warm_up(self) -> None:
        """Load the model now. Raises `ScoringError`, a `ValueError`, if it cannot be."""
        self._scorer()

    def rerank(
        self, query: str, results: list[QueryResult], top_k: int | None = None
    ) -> list[QueryResult]:
        """Return the results with new scores (logits), best first; the input is left as it is.

        `top_k` keeps that many: None and any number beyond their count keep all, 0 keeps none.
        Equal scores keep their order. No results give no results, whatever the query. Raises
        `InvalidInput` for a blank query or a negative `top_k`, and `ScoringError` if the model
        fails or does not load; both are `ValueError`s.
        """
        if top_k is not None and top_k < 0:
            raise InvalidInput(f"top_k is {top_k}: it must be 0 or more, or None for all")
        if not results or top_k == 0:
            return []
        if not query.strip():
            raise InvalidInput("the query is blank: there is nothing to rank by")
        began = time.perf_counter()
        scores = self._score(query, results)
        best = [
            results[index].model_copy(update={"score": scores[index]}, deep=True)
            for index in ranking.best_indexes(scores, top_k)
        ]
        logger.info(
            "Reranked %d results → %d results in %.3fs (model=%s)",
            len(results),
            len(best),
            time.perf_counter() - began,
            short_name(self.model_name),
        )
        return best

    async def rerank_async(
        self, query: str, results: list[QueryResult], top_k: int | None = None
    ) -> list[QueryResult]:
        """Rerank as `rerank` does, in a thread, so that the event loop stays free."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._models.executor, self.rerank, query, results, top_k)

    def _score(self, query: str, results: list[QueryResult]) -> list[float]:
        scorer = self._scorer()
        with self._as_value_errors():
            return scorer.score([(query, result.chunk.text) for result in results])

    def _scorer(self) -> Scorer:
        settings = self._settings
        with self._as_value_errors():
            scorer = self._models.scorers.get(
                self.model_name,
                settings.device,
                settings.threads,
                settings.max_batch_tokens,
                settings.dtype,
                settings.max_length,
            )
            require_length(scorer, settings.max_length)
            return scorer

    @contextmanager
    def _as_value_errors(self) -> Iterator[None]:
        """Raise all that a model can do wrong as one kind of error, in one form."""
        try:
            yield
        except ModelUnavailable as error:
            raise ModelUnavailable(failure_message(self.model_name, error)) from (
                error.__cause__ or error
            )
        except OutOfMemory as error:
            raise ScoringError(str(error)) from error
