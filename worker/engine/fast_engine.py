"""The engine for our own networks on a CPU: batches without padding, one batch per thread."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from contract.printable import counted
from worker.engine import batches, packing, tuning
from worker.engine.backoff import BatchBudget, Batches, BatchOutcome, score_with_backoff
from worker.engine.batches import ScoreArray
from worker.engine.encoders import max_length, weights_dtype
from worker.engine.linear import Linear
from worker.engine.pair_layout import PairLayout, PairTokens
from worker.engine.pieces import Pieces
from worker.engine.protocol import BeforeBatch, EngineOutput, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.threads import LEAST_SHARE_S, ScoringThreads
from worker.engine.tokens import PairTokenizer

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)

#: Candidate token budgets. The first is chosen unless another is clearly faster.
CPU_BUDGETS = (1024, 512, 2048, 4096)


class FastEngine:
    """A network of a model family, with each thread scoring a different batch.

    This keeps two cores busier than two threads on the same batch, because most operations on a few
    hundred tokens are too small to be parallelised. An engine that is read from a file needs no
    transformers.
    """

    backend = "rerankq"

    def __init__(self, encoder: CrossEncoder, linear: type[Linear], threads: int) -> None:
        # Imported here because an engine from a file does without transformers.
        from worker.engine.families import registry

        family, layout = registry.find(encoder), PairLayout.of(encoder.tokenizer)
        if family is None or layout is None:
            raise ValueError(f"no fast path computes a {type(encoder.model).__name__}")
        self.dtype = weights_dtype(encoder)
        self.labels = int(encoder.num_labels)
        self.max_length = max_length(encoder)
        self.threads = threads
        self._layout = layout
        self._network = family.network(encoder.model, linear)
        self._tokenizer = PairTokenizer(encoder.tokenizer, self.max_length, layout.tokens)
        self.budget = BatchBudget(CPU_BUDGETS[0])
        self._least_share = 1
        self._pool = ScoringThreads(threads)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_pool"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._pool = ScoringThreads(self.threads)

    @property
    def batches_at_once(self) -> int:
        """Return the number of batches that are scored at the same time, one per thread."""
        return self.threads

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
        if not pairs:
            return EngineOutput(np.empty(0, np.float32), 0, [])
        tokens = self._tokenizer.tokenize(pairs)
        budget = self.budget.small() if small_batches else self.budget
        return EngineOutput(
            self._score(tokens, before_batch, budget, statistics),
            sum(pair.length for pair in tokens),
            [pair.lost for pair in tokens],
        )

    def room(self, query: str) -> int:
        """Return how many tokens a passage may have next to this query."""
        return self._tokenizer.room(query)

    def pieces(self, text: str) -> Pieces:
        """Return where a text may be cut."""
        return self._tokenizer.pieces(text)

    def tune(self, threads: int | None, max_batch_tokens: int | None) -> None:
        """Set the number of threads and the token budget; measure to find those that are None."""

        def score_budget(tokens: int) -> int:
            return self._score_made_up([tokens])

        self.budget = BatchBudget(max_batch_tokens or tuning.fastest(CPU_BUDGETS, score_budget))
        if threads is None and self.threads > 1:
            # With two logical cores per physical core, half as many threads may be as fast.
            choices = (max(1, self.threads // 2), self.threads)
            self.threads = tuning.fastest(choices, self._score_in_threads)
            self._pool = ScoringThreads(self.threads)
        if self.threads > 1:
            token_s = tuning.seconds_per_token(min(CPU_BUDGETS), score_budget)
            self._least_share = round(LEAST_SHARE_S / token_s)
        logger.info(
            "Scoring with %s and batches of up to %s",
            counted(self.threads, "thread"),
            counted(self.budget.full, "token"),
        )

    def _score(
        self,
        tokens: Sequence[PairTokens],
        before_batch: BeforeBatch,
        budget: BatchBudget,
        statistics: BatchStatistics,
    ) -> ScoreArray:
        def make_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
            shared = (self.threads, self._least_share)
            return list(batches.make_batches(lengths, max_tokens, *shared))

        def score_batch(indexes: list[int]) -> ScoreArray:
            before_batch()
            return self._forward([tokens[index] for index in indexes], statistics)

        def attempt_batches(made: Batches, one_at_a_time: bool) -> list[BatchOutcome]:
            return self._pool.attempt_each(score_batch, made, one_at_a_time=one_at_a_time)

        lengths = [pair.length for pair in tokens]
        return score_with_backoff(lengths, budget, make_batches, attempt_batches, statistics)

    def _forward(self, pairs: Sequence[PairTokens], statistics: BatchStatistics) -> ScoreArray:
        batch = packing.lay_out(pairs, self._layout)
        scores: ScoreArray = self._network(batch).numpy()
        statistics.batch_tokens.append(len(batch.ids))
        return scores

    def _score_made_up(self, budgets: Sequence[int]) -> int:
        """Score a made-up batch for each budget, and return the number of tokens."""
        made_up = [self._make_up(budget) for budget in budgets]
        self._pool.map(partial(self._forward, statistics=BatchStatistics()), made_up)
        return sum(pair.length for pairs in made_up for pair in pairs)

    def _make_up(self, tokens: int) -> list[PairTokens]:
        """Return pairs as long as passages (40 to 140 tokens, 90 on average), `tokens` in total."""
        special = self._layout.tokens
        room = self.max_length - special
        word = self._layout.before[:1]
        query = np.repeat(word, min(8, room // 2))
        sizes = [min(size, room - len(query)) for size in range(129, 29, -10)]
        pairs = [PairTokens(query, np.repeat(word, size), 0, special) for size in sizes]
        return [pair for pair in pairs for _ in range(max(1, round(tokens / 900)))]

    def _score_in_threads(self, threads: int) -> int:
        self.threads = threads
        self._pool = ScoringThreads(threads)
        return self._score_made_up([min(CPU_BUDGETS)] * threads)
