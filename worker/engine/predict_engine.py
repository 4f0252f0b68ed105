"""`CrossEncoder.predict` as an engine, for all models that our own networks do not support."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer

from contract.errors import ScoringError
from contract.printable import counted
from worker.engine import batches, memory, padding, tuning
from worker.engine.backoff import (
    BatchBudget,
    Batches,
    BatchOutcome,
    attempt_each,
    score_with_backoff,
)
from worker.engine.batches import ScoreArray
from worker.engine.encoders import max_length, weights_dtype
from worker.engine.lengths import untruncated_lengths
from worker.engine.pieces import Pieces
from worker.engine.predict_steps import Predict, PredictSteps, find_thread_dependence
from worker.engine.probes import MEAN_TOKENS, TOLERANCES, UNEQUAL_PROBES, made_up_pairs
from worker.engine.prompts import has_chat_template
from worker.engine.protocol import BeforeBatch, EngineOutput, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.text_tokenizers import TextTokenizer
from worker.engine.threads import LEAST_SHARE_S, ScoringThreads, torch_threads
from worker.engine.truncation import document_room

logger = logging.getLogger(__name__)

#: Candidate token budgets, with padding. The first is chosen unless another is clearly faster.
CPU_BUDGETS = (1024, 512, 2048, 4096)
GPU_BUDGETS = (16_384, 8_192, 32_768)
#: Time limit for each of two choices, in seconds. Large models are not measured in this time.
LIMIT_S = 0.7
#: How much faster all threads on one batch must be, because on a busy machine they are much slower.
CLEARLY_FASTER = 1.05
#: Pairs whose tokens are counted at once, to limit memory.
PAIRS_AT_ONCE = 4_096


class PredictEngine:
    """sentence-transformers itself, for every model that it can load.

    All threads score the same batch, until `prepare` finds that a batch in each thread is faster.
    """

    backend = "sentence-transformers"

    def __init__(
        self, encoder: CrossEncoder, threads: int, max_batch_tokens: int | None = None
    ) -> None:
        self.dtype = weights_dtype(encoder)
        self.labels = int(encoder.num_labels)
        self.max_length = max_length(encoder)
        self.threads = threads
        self._encoder = encoder
        self._on_gpu = encoder.device.type != "cpu"
        self._budgets = GPU_BUDGETS if self._on_gpu else CPU_BUDGETS
        self.budget = BatchBudget(max_batch_tokens or self._budgets[0])
        self._least_share = 1
        self._one_by_one = False
        self._predict = Predict(encoder)
        self._steps = PredictSteps(encoder)
        #: Threads that score a batch each; None if all threads score the same batch.
        self._pool: ScoringThreads | None = None

    @property
    def batches_at_once(self) -> int:
        """Return the number of batches that are scored at the same time."""
        return 1 if self._pool is None else self.threads

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
            scores = self._score_batch([pairs[index] for index in indexes])
            longest = max(tokens[index] for index in indexes)
            statistics.batch_tokens.append(len(indexes) * longest)
            return scores

        def attempt_batches(made: Batches, one_at_a_time: bool) -> list[BatchOutcome]:
            if self._pool is not None:
                return self._pool.attempt_each(score_batch, made, one_at_a_time=one_at_a_time)
            with torch_threads(self.threads):
                return attempt_each(score_batch, made)

        tokens, lost = self._count_tokens(pairs)
        if not pairs:
            return EngineOutput(np.empty(0, np.float32), 0, [])
        budget = self.budget.small() if small_batches else self.budget
        scores = score_with_backoff(tokens, budget, self._make_batches, attempt_batches, statistics)
        return EngineOutput(scores, sum(tokens), lost)

    def room(self, query: str) -> int:
        """Return how many tokens a passage may have next to this query."""
        with_query, around = untruncated_lengths(self._encoder, [(query, ""), ("", "")])
        if has_chat_template(self._encoder):
            return self.max_length - with_query
        return document_room(with_query - around, self.max_length - around)

    def pieces(self, text: str) -> Pieces:
        """Return where a text may be cut. Raises `ScoringError` if that cannot be known."""
        return self._text_tokenizer.pieces(text)

    @cached_property
    def _text_tokenizer(self) -> TextTokenizer:
        backend = getattr(self._encoder.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ScoringError(
                "its tokenizer does not report where tokens are in a text, so documents cannot be"
                " cut into passages"
            )
        own = copy.deepcopy(backend)
        own.no_truncation()
        own.no_padding()
        return TextTokenizer(own)

    def prepare(self, max_batch_tokens: int | None) -> None:
        """Check whether scores depend on the batch or the thread, and find the fastest way.

        The token budget of a batch is found by measuring if `max_batch_tokens` is None.
        """
        self._check_batching()
        threadable = self.threads > 1 and not self._on_gpu and self._can_score_in_threads()
        token_s = self._expected_token_s()
        self._least_share = round(LEAST_SHARE_S / token_s)
        if threadable:
            self._choose_way(token_s)
        if max_batch_tokens is None and not self._one_by_one:
            self._choose_budget(token_s)
        logger.info(
            "Scoring with %s%s, in batches of up to %s",
            counted(self.threads, "thread"),
            "" if self._pool is None else " that score a batch each",
            "one pair" if self._one_by_one else counted(self.budget.full, "token"),
        )

    def _check_batching(self) -> None:
        """Score pairs one at a time from now on if their scores depend on the batch."""
        with torch_threads(1):  # on a busy machine, several threads wait for the slowest one
            why = padding.find_dependence(
                self._encoder, UNEQUAL_PROBES, self._predict, TOLERANCES[self.dtype]
            )
        if why is not None:
            self._one_by_one = True
            logger.warning(
                "%s does not return the same scores for pairs in a batch as for each pair alone"
                " (%s). Scoring one pair at a time, which is slower",
                type(self._encoder.model).__name__,
                why,
            )

    def _can_score_in_threads(self) -> bool:
        """Return whether a batch in each thread has the scores of one batch in all threads."""
        made = [[pair] for pair in UNEQUAL_PROBES] + self._probe_batches()
        with torch_threads(1):
            expected = [self._predict(pairs) for pairs in made]
        why = find_thread_dependence(
            self._steps, made, expected, self.threads, TOLERANCES[self.dtype]
        )
        if why is not None:
            logger.warning(
                "%s does not return the same scores in several threads at the same time (%s)."
                " Scoring one batch at a time, which may be slower",
                type(self._encoder.model).__name__,
                why,
            )
        return why is None

    def _probe_batches(self) -> list[list[Pair]]:
        return [[pair] for pair in UNEQUAL_PROBES] if self._one_by_one else [UNEQUAL_PROBES]

    def _expected_token_s(self) -> float:
        """Return at most how long a token takes if all threads are busy, in seconds."""
        tokens, _ = self._count_tokens(UNEQUAL_PROBES)
        began = time.perf_counter()
        with torch_threads(1):
            for pairs in self._probe_batches():
                self._predict(pairs)
        return (time.perf_counter() - began) / sum(tokens) / self.threads

    def _choose_way(self, token_s: float) -> None:
        """Score a batch in each thread, unless one batch in all threads is clearly faster."""
        pools = (ScoringThreads(self.threads), None)
        pairs = self._made_up(self.budget.full * self.threads)
        expected_s = len(pairs) * MEAN_TOKENS * token_s

        def score(way: int) -> int:
            self._pool = pools[way]
            return self.run(pairs).tokens

        ways = dict.fromkeys(range(len(pools)), expected_s)
        best = tuning.fastest_in_turns(ways, score, LIMIT_S, CLEARLY_FASTER)
        self._pool = pools[best]

    def _choose_budget(self, token_s: float) -> None:
        def score(budget: int) -> int:
            self.budget = BatchBudget(budget)
            return self.run(made_up[budget]).tokens

        made_up = {budget: self._made_up(budget * self.batches_at_once) for budget in self._budgets}
        expected_s = {
            budget: len(pairs) * MEAN_TOKENS * token_s for budget, pairs in made_up.items()
        }
        self.budget = BatchBudget(tuning.fastest_in_turns(expected_s, score, LIMIT_S))

    def _made_up(self, tokens: int) -> list[Pair]:
        (shortest,) = untruncated_lengths(self._encoder, [("a", "a")])
        return made_up_pairs(tokens, shortest, self.max_length)

    def _make_batches(self, tokens: Sequence[int], max_tokens: int) -> Batches:
        return list(
            batches.make_batches(
                tokens,
                1 if self._one_by_one else max_tokens,
                self.batches_at_once,
                self._least_share,
                padded=True,
            )
        )

    def _score_batch(self, pairs: list[Pair]) -> ScoreArray:
        score = self._predict if self._pool is None else self._steps
        try:
            return score(pairs)
        except ValueError as error:
            # T5 and BART score only batches in which all pairs have the same number of end tokens,
            # and a text may contain one.
            if len(pairs) == 1 or memory.ran_out(error):
                raise
            return np.concatenate([score([pair]) for pair in pairs])

    def _count_tokens(self, pairs: Sequence[Pair]) -> tuple[list[int], list[int]]:
        """Return how many tokens are read of each pair, and how many are not."""
        lengths: list[int] = []
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            lengths += untruncated_lengths(self._encoder, pairs[start : start + PAIRS_AT_ONCE])
        limit = self.max_length
        read = [min(tokens, limit) for tokens in lengths]
        return read, [tokens - kept for tokens, kept in zip(lengths, read, strict=True)]
