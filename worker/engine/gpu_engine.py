"""The engine for our own networks on a GPU: one stream, and no wait before the end of a run.

The host only starts work: it tokenizes a portion of the pairs, lays out its batches and starts
their computation, while the GPU computes earlier ones. Scores stay on the GPU until all batches
have been started. Then the host waits once and copies them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from contract.printable import counted, reason_of
from worker.engine import device_memory, memory, tuning, varlen
from worker.engine.backoff import BatchBudget, attempt, attempt_each, score_with_backoff
from worker.engine.batches import ScoreArray
from worker.engine.encoders import max_length, weights_dtype
from worker.engine.families import registry
from worker.engine.linear import Linear
from worker.engine.packing import Ids
from worker.engine.pair_columns import PairColumns
from worker.engine.pair_layout import PairLayout
from worker.engine.pieces import Pieces
from worker.engine.protocol import BeforeBatch, EngineOutput, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.threads import prefetch
from worker.engine.tokens import PairTokenizer
from worker.engine.varlen import VarlenFunction

logger = logging.getLogger(__name__)

#: Candidate token budgets. The first is chosen unless another is clearly faster.
BUDGETS = (65_536, 32_768, 131_072)
#: The first run of a budget loads kernels and allocates memory, so it does not show how fast it is.
RUNS_PER_BUDGET = 2
#: Pairs that are tokenized at once: several batches, so that the GPU has work meanwhile.
PORTION_PAIRS = 4_096


@dataclass(frozen=True)
class Portion:
    """Some of the pairs of a run, from `start` on."""

    start: int
    pairs: PairColumns


@dataclass(frozen=True)
class Started:
    """A batch whose scores the GPU computes: the places of its pairs in the run."""

    portion: Portion
    places: list[int]
    logits: Tensor


class GpuEngine:
    """A network of a model family on a GPU, with `function` for attention."""

    backend = "rerankq"
    batches_at_once = 1

    def __init__(self, encoder: CrossEncoder, function: VarlenFunction) -> None:
        family, layout = registry.find(encoder), PairLayout.of(encoder.tokenizer)
        if family is None or layout is None:
            raise ValueError(f"no fast path computes a {type(encoder.model).__name__}")
        self.dtype = weights_dtype(encoder)
        self.labels = int(encoder.num_labels)
        self.max_length = max_length(encoder)
        self.budget = BatchBudget(BUDGETS[0])
        #: The host computes nothing but layouts.
        self.threads = 1
        self._layout = layout
        self._function = function
        self._network = family.network(encoder.model, Linear)
        self._token_bytes = device_memory.bytes_per_token(encoder.model)
        self._tokenizer = PairTokenizer(encoder.tokenizer, self.max_length, layout.tokens)

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        """Score the pairs, sorted by length within portions of a few thousand pairs."""
        statistics = statistics or BatchStatistics()
        budget = self.budget.small() if small_batches else self.budget
        portions: list[Portion] = []
        started: list[Started] = []
        scores = np.empty(len(pairs), np.float32)
        with self._in_use():
            error: Exception | None = None
            for portion in self._tokenized(pairs):
                portions.append(portion)
                if error is None:
                    error = self._start(portion, budget, before_batch, statistics, started)
            if error is None:
                error = _collect(started, scores)
            if error is None:
                budget.record_success()
            else:
                del started[:]  # their scores may be incomplete, and occupy memory
                scores = self._score_carefully(portions, budget, before_batch, statistics, error)
        return EngineOutput(
            scores,
            sum(int(each.pairs.lengths.sum()) for each in portions),
            [lost for each in portions for lost in each.pairs.lost.tolist()],
        )

    def room(self, query: str) -> int:
        """Return how many tokens a passage may have next to this query."""
        return self._tokenizer.room(query)

    def pieces(self, text: str) -> Pieces:
        """Return where a text may be cut."""
        return self._tokenizer.pieces(text)

    def tune(self, threads: int | None, max_batch_tokens: int | None) -> None:
        """Set the token budget; measure to find it if it is None. The host needs one thread."""
        del threads
        self.budget = BatchBudget(max_batch_tokens or self._best_budget())
        logger.info("Scoring with batches of up to %s", counted(self.budget.full, "token"))

    def _best_budget(self) -> int:
        device = self._network.device
        most = device_memory.fitting_tokens(device_memory.free_bytes(device), self._token_bytes)
        fitting = [budget for budget in BUDGETS if budget <= most] or [most]
        with self._in_use():
            return tuning.fastest(fitting, self._score_made_up, RUNS_PER_BUDGET)

    def _tokenized(self, pairs: Sequence[Pair]) -> Iterator[Portion]:
        """Yield the pairs in portions, tokenized ahead where that happens outside Python.

        A thread of Python would only take turns with this one.
        """
        starts = range(0, len(pairs), PORTION_PAIRS)
        ahead = prefetch if self._tokenizer.waits_for_other_threads else map
        texts = (pairs[start : start + PORTION_PAIRS] for start in starts)
        for start, columns in zip(starts, ahead(self._tokenizer.columns, texts), strict=True):
            yield Portion(start, columns)

    def _start(
        self,
        portion: Portion,
        budget: BatchBudget,
        before_batch: BeforeBatch,
        statistics: BatchStatistics,
        started: list[Started],
    ) -> Exception | None:
        """Start the batches of a portion; return an error if memory ran out."""
        for places in make_batches(portion.pairs.lengths, budget.tokens):
            before_batch()
            logits = attempt(partial(self._forward, portion.pairs, places))
            if isinstance(logits, Exception):
                return logits
            started.append(Started(portion, places, logits))
            statistics.batch_tokens.append(int(portion.pairs.lengths[places].sum()))
        return None

    def _score_carefully(
        self,
        portions: Sequence[Portion],
        budget: BatchBudget,
        before_batch: BeforeBatch,
        statistics: BatchStatistics,
        error: Exception,
    ) -> ScoreArray:
        """Score all pairs in smaller batches, one by one, after memory ran out."""
        statistics.out_of_memory += 1
        statistics.budget_reductions += 1
        statistics.batch_tokens.clear()
        budget.halve()
        memory.release_unused()
        logger.warning(
            "Out of memory (%s): retrying with batches of %s, one at a time",
            reason_of(error),
            counted(budget.tokens, "token"),
        )
        scores = []
        for portion in portions:
            columns = portion.pairs

            def score_batch(places: list[int], columns: PairColumns = columns) -> ScoreArray:
                before_batch()
                logits: ScoreArray = self._forward(columns, places).cpu().numpy()
                statistics.batch_tokens.append(int(columns.lengths[places].sum()))
                return logits

            scores.append(
                score_with_backoff(
                    columns.lengths.tolist(),
                    budget,
                    lambda lengths, tokens: make_batches(np.array(lengths), tokens),
                    lambda made, _, score=score_batch: attempt_each(score, made),  # type: ignore[misc]
                    statistics,
                )
            )
        return np.concatenate(scores)

    def _forward(self, pairs: PairColumns, places: list[int]) -> Tensor:
        return self._network(varlen.lay_out(pairs, places, self._layout, self._function))

    def _score_made_up(self, budget: int) -> int:
        """Score two made-up batches, and return the number of their tokens."""
        special = self._layout.tokens
        # As long as passages: 40 to 140 tokens, 90 on average.
        sizes = [min(size, self.max_length) - special for size in range(140, 39, -10)]
        pairs = max(1, 2 * budget // 90 // len(sizes)) * len(sizes)
        word = self._layout.before[:1].tobytes()
        lengths = np.resize(np.array(sizes, np.int32), pairs) + np.int32(special)
        documents = [word * (length - special) for length in lengths.tolist()]
        nothing = np.zeros(pairs, np.int32)
        columns = PairColumns([b""] * pairs, documents, nothing, lengths, nothing)
        logits = [self._forward(columns, places) for places in make_batches(lengths, budget)]
        torch.cat(logits).cpu()
        return int(lengths.sum())

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Make the network's device the current one of this thread, as pinned memory requires."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._network.device.type == "cuda":
                stack.enter_context(torch.cuda.device(self._network.device))
            yield


def make_batches(lengths: Ids, max_tokens: int) -> list[list[int]]:
    """Return the places of `lengths`, longest first, in batches of at most `max_tokens` tokens.

    A single pair may exceed that.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    made: list[list[int]] = []
    first, before = 0, 0
    while first < len(order):
        end = max(first + 1, int(np.searchsorted(ends, before + max_tokens, side="right")))
        made.append(order[first:end].tolist())
        first, before = end, int(ends[end - 1])
    return made


def _collect(started: Sequence[Started], scores: ScoreArray) -> Exception | None:
    """Wait for all batches and write their scores; return an error if memory ran out."""
    if not started:
        return None
    logits = attempt(lambda: torch.cat([each.logits for each in started]).cpu().numpy())
    if isinstance(logits, Exception):
        return logits
    places = np.concatenate([np.add(each.places, each.portion.start) for each in started])
    scores[places] = logits
    return None
