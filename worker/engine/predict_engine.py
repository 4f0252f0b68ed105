"""`CrossEncoder.predict` as an engine, for all models that our own BERT does not support."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from worker.engine import batches, memory, padding
from worker.engine.backoff import BatchBudget, attempt_each, score_with_backoff
from worker.engine.batches import ScoreArray
from worker.engine.encoders import gives_logits, max_length, weights_dtype
from worker.engine.lengths import untruncated_lengths
from worker.engine.probes import TOLERANCES, UNEQUAL_PROBES
from worker.engine.protocol import BeforeBatch, EngineOutput, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.threads import torch_threads

logger = logging.getLogger(__name__)

#: Not measured at startup: this was within 3 % of the best for RoBERTa and BERT.
BATCH_TOKENS = 1024
#: Pairs whose tokens are counted at once, to limit memory.
PAIRS_AT_ONCE = 4_096


class PredictEngine:
    """sentence-transformers itself, for every model that it can load."""

    backend = "sentence-transformers"
    batches_at_once = 1

    def __init__(self, encoder: CrossEncoder, threads: int, max_batch_tokens: int) -> None:
        self.dtype = weights_dtype(encoder)
        self.labels = int(encoder.num_labels)
        self.max_length = max_length(encoder)
        self.threads = threads
        self.budget = BatchBudget(max_batch_tokens)
        self._encoder = encoder
        self._one_by_one = False
        logits = gives_logits(encoder)
        self._activation = torch.nn.Identity() if logits else encoder.activation_fn

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        """Score the pairs, sorted by length over all of them."""
        statistics = statistics or BatchStatistics()

        def score_batch(indexes: list[int]) -> ScoreArray:
            before_batch()
            scores = self._predict_batch([pairs[index] for index in indexes])
            longest = max(tokens[index] for index in indexes)
            statistics.batch_tokens.append(len(indexes) * longest)
            return scores

        tokens, truncated = self._count_tokens(pairs)
        if not pairs:
            return EngineOutput(np.empty(0, np.float32), 0, [])
        with torch_threads(self.threads):
            scores = score_with_backoff(
                tokens,
                self.budget.small() if small_batches else self.budget,
                self._make_batches,
                lambda made, _: attempt_each(score_batch, made),
                statistics,
            )
        return EngineOutput(scores, sum(tokens), truncated)

    def check_batching(self) -> None:
        """Score pairs one at a time from now on if their scores depend on the batch."""
        with torch_threads(self.threads):
            why = padding.find_dependence(
                self._encoder, UNEQUAL_PROBES, self._predict, TOLERANCES[self.dtype]
            )
        if why is not None:
            self._one_by_one = True
            logger.warning(
                "%s does not return the same scores for pairs in a batch as for each pair alone"
                " (%s). Scoring one pair at a time, which is slower",
                *(type(self._encoder.model).__name__, why),
            )

    def _make_batches(self, tokens: Sequence[int], max_tokens: int) -> list[list[int]]:
        return list(
            batches.make_batches(tokens, 1 if self._one_by_one else max_tokens, padded=True)
        )

    def _predict_batch(self, pairs: list[Pair]) -> ScoreArray:
        try:
            return self._predict(pairs)
        except ValueError as error:
            # T5 and BART score only batches in which all pairs have the same number of end tokens,
            # and a text may contain one.
            if len(pairs) == 1 or memory.ran_out(error):
                raise
            return np.concatenate([self._predict([pair]) for pair in pairs])

    def _predict(self, pairs: list[Pair]) -> ScoreArray:
        scores: ScoreArray = self._encoder.predict(
            pairs, batch_size=len(pairs), activation_fn=self._activation, show_progress_bar=False
        )
        return scores

    def _count_tokens(self, pairs: Sequence[Pair]) -> tuple[list[int], list[bool]]:
        """Return how many tokens are read of each pair, and whether it was truncated."""
        lengths: list[int] = []
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            lengths += untruncated_lengths(self._encoder, pairs[start : start + PAIRS_AT_ONCE])
        limit = self.max_length
        return [min(tokens, limit) for tokens in lengths], [tokens > limit for tokens in lengths]
