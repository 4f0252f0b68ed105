"""The reranker in the caller's own process, for programs that need no queue.

reranker = CrossEncoderReranker()
best = reranker.rerank("a query", results, top_k=10)
best = await reranker.rerank_async("a query", results, top_k=10)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contract import jobs
from contract.errors import InvalidInput, ModelUnavailable, OutOfMemory, ScoringError
from contract.jobs import RankedDocument
from contract.models import short_name
from contract.passages import Passages
from worker.engine import Scorer, ranking
from worker.engine.scorer import failure_message
from worker.engine.scorer_cache import require_length
from worker.inprocess.arguments import require_query, require_results, require_top_k
from worker.inprocess.models import ProcessModels, process_models
from worker.inprocess.results import QueryResult
from worker.inprocess.settings import ModelSettings

if TYPE_CHECKING:
    from worker.engine.unique_pairs import ScoredPairs

logger = logging.getLogger(__name__)


class CrossEncoderReranker:
    """Sorts results by a cross-encoder's score. Safe to share between threads.

    The model is `model_name`, else `CROSS_ENCODER_MODEL`, else ms-marco-MiniLM-L-6-v2. It may be a
    name on the hub, also with a revision (`NAME@REVISION`), a local path or `bundled`. It is loaded
    on first use, once per process for each combination of settings. To load it when the program
    starts, pass `warm=True` or call `warm_up()`.

    `device`, `dtype`, `threads`, `max_length`, `max_batch_tokens` and `prompt` have the meaning
    and the defaults of the worker's settings (`RERANKQ_DEVICE` and so on). No other setting of the
    service is read. `passages` is the number of tokens of the passages into which long documents
    are cut, or a dict with `tokens`, `stride` and `aggregate`; by default, documents are truncated.
    `models` are shared with the other rerankers of the process by default. Raises
    `InvalidInput` with the name of a setting that is invalid, and with `warm=True` the errors of
    `warm_up`.
    """

    def __init__(
        self,
        model_name: str | None = None,
        *,
        warm: bool = False,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        max_length: int | None = None,
        max_batch_tokens: int | None = None,
        prompt: str | None = None,
        passages: Passages | Mapping[str, object] | int | None = None,
        models: ProcessModels | None = None,
    ) -> None:
        self._models = models or process_models()
        self._passages = Passages.parse(passages)
        self._settings = ModelSettings.load(
            cross_encoder_model=model_name,
            device=device,
            dtype=dtype,
            threads=threads,
            max_length=max_length,
            max_batch_tokens=max_batch_tokens,
            prompt=prompt,
        )
        self.model_name = self._settings.cross_encoder_model
        self._max_length, self._max_length_from = self._settings.max_length, "RERANKQ_MAX_LENGTH"
        own_length = self._settings.own_max_length(self.model_name)
        if max_length is None and own_length is not None:
            self._max_length, self._max_length_from = own_length, "RERANKQ_MODEL_MAX_LENGTHS"
        if warm:
            self.warm_up()

    def warm_up(self) -> None:
        """Load the model now. Raises `ScoringError`, a `ValueError`, if it cannot be loaded."""
        self._scorer()

    def rerank(
        self, query: str, results: list[QueryResult], top_k: int | None = None
    ) -> list[QueryResult]:
        """Return the results with new scores (logits), best first, without changing the input.

        `top_k` is the number of results to keep: None or a larger number than there are keeps all,
        0 keeps none. Equal scores keep their order. Empty input returns an empty list, even if the
        query is blank. Raises `InvalidInput` for a blank query, a negative `top_k` or an argument
        of another type, and `ScoringError` if the model fails or cannot be loaded. Both are
        `ValueError`s.
        """
        require_query(query)
        require_results(results)
        require_top_k(top_k)
        if not results or top_k == 0:
            return []
        if not query.strip():
            raise InvalidInput("the query must not be blank")
        began = time.perf_counter()
        scores = self._score(query, (result.chunk.text for result in results)).logits
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
        """Rerank as `rerank` does, in a thread, so that the event loop is not blocked."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._models.executor, self.rerank, query, results, top_k)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        passages: Passages | Mapping[str, object] | int | None = None,
    ) -> tuple[RankedDocument, ...]:
        """Return the documents' indexes, scores and relevance, best first, as a client's job does.

        With `passages`, of this call or of the reranker, each document also has the passage that
        its score is from.

        `top_k` is the number of documents to keep; None keeps all. No documents return an empty
        tuple. Raises `InvalidInput` or `ScoringError`, which are `ValueError`s.
        """
        if not documents:
            return ()
        candidates = [{"id": str(i), "text": text} for i, text in enumerate(documents)]
        request = jobs.parse(
            jobs.Request, {"query": query, "candidates": candidates, "top_k": top_k}
        )
        scored = self._score(query, documents, Passages.parse(passages))
        return ranking.rank(request, scored.logits, passages=scored.passages).documents

    def _score(
        self, query: str, texts: Iterable[str], passages: Passages | None = None
    ) -> ScoredPairs:
        scorer, how = self._scorer(), passages or self._passages
        with self._as_value_errors():
            return scorer.score_pairs([(query, text) for text in texts], passages=how)

    def _scorer(self) -> Scorer:
        settings = self._settings
        with self._as_value_errors():
            scorer = self._models.scorers.get(
                self.model_name,
                settings.device,
                settings.threads,
                settings.max_batch_tokens,
                settings.dtype,
                self._max_length,
                settings.prompt,
            )
            require_length(scorer, self._max_length, self._max_length_from)
            return scorer

    @contextmanager
    def _as_value_errors(self) -> Iterator[None]:
        """Raise all errors of a model as one type of error, with messages in one form."""
        try:
            yield
        except ModelUnavailable as error:
            raise ModelUnavailable(failure_message(self.model_name, error)) from (
                error.__cause__ or error
            )
        except OutOfMemory as error:
            raise ScoringError(str(error)) from error
