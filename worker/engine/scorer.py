"""The one place that runs a model: pairs of texts in, scores out, in the caller's order.

It knows nothing of jobs, queries or ranks. Equal pairs are scored once; how the others are scored,
is up to an engine (see `worker.engine.engines`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from billiard.exceptions import SoftTimeLimitExceeded

from contract import metrics, names
from contract.errors import BadScores, ModelUnavailable, OutOfMemory, RerankError, ScoringError
from worker.engine import engines, load_progress, loading, memory, warmup
from worker.engine.engines import Pair
from worker.runtime import counters as counts
from worker.runtime.counters import Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """Scores of some pairs, in the caller's order, and what they cost."""

    #: One raw logit a pair; a list of them a pair if the model has several labels. A model with an
    #: activation of its own making (no identity, no sigmoid) gives what comes out of that.
    logits: list[Any]
    #: Number of pairs that differ from each other.
    unique_pairs: int
    #: Of the unique pairs, after cutting.
    tokens: int
    #: Which pairs (not unique ones) were longer than the model reads.
    cut: list[bool]

    @property
    def truncated(self) -> int:
        """Number of pairs that were cut."""
        return sum(self.cut)


class Scorer:
    """A warm cross-encoder. Safe to share between threads, which then take turns.

    `model` is a name on the Hugging Face hub, a local path, or `bundled`, each with `@int8` behind
    it for 8-bit weights. `threads` and `max_batch_tokens` (tokens of a batch) are found by
    measuring if they are None; `dtype` is then float32, and float16 on CUDA. `max_length` reads
    fewer tokens of a pair than the model allows. Raises `ModelUnavailable`, or `OutOfMemory`.
    """

    def __init__(
        self,
        model: str,
        device: str = "cpu",
        threads: int | None = None,
        max_batch_tokens: int | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
    ) -> None:
        began = time.perf_counter()
        encoder = loading.load(model, device, dtype, max_length)
        self.model = model
        self.device = device
        self.labels = encoder.num_labels
        self.max_length = engines.max_length(encoder)
        self._turn = threading.Lock()
        load_progress.say(f"preparing model {model!r}")
        try:
            self._engine = engines.choose(
                encoder,
                int8=loading.is_int8(model),
                threads=threads,
                max_batch_tokens=max_batch_tokens,
            )
            self._warm_up()
        except (OutOfMemory, SoftTimeLimitExceeded):
            raise
        # What fails with made-up pairs would fail in every job.
        except Exception as error:
            if memory.ran_out(error):
                raise OutOfMemory(failed(model, error)) from error
            raise ModelUnavailable(loading.unusable(model, error)) from error
        seconds = time.perf_counter() - began
        counts.add({metrics.LOADS.field(model): 1, metrics.LOADING_S.field(model): seconds})
        logger.info("Warmed up %s in %.3fs", model, seconds)

    @property
    def backend(self) -> str:
        """What scores: `rerankq` (the fast exact path) or `sentence-transformers`."""
        return self._engine.backend

    @property
    def dtype(self) -> str:
        """The precision of the weights."""
        return self._engine.dtype

    def score(self, pairs: Sequence[Pair]) -> list[Any]:
        """Raw logits of (query, document) pairs, in their order.

        Raises `ScoringError`, or `OutOfMemory`.
        """
        return self.score_counted(pairs).logits

    def score_counted(
        self,
        pairs: Sequence[Pair],
        before_batch: engines.BeforeBatch = engines.nothing,
        *,
        careful: bool = False,
    ) -> Scores:
        """As `score`, with counts of what was scored.

        `before_batch` is called before each batch, and ends it all by raising a `RerankError`.
        `careful` takes small batches, where memory may be short.
        """
        work, tokens = Work(), 0
        with self._turn:
            began = time.perf_counter()
            try:
                scores = self._try(pairs, before_batch, careful, work)
                tokens = scores.tokens
            finally:
                work.count(self.model, tokens, time.perf_counter() - began)
        return scores

    def _try(
        self, pairs: Sequence[Pair], before_batch: engines.BeforeBatch, careful: bool, work: Work
    ) -> Scores:
        try:
            return self._score(pairs, before_batch, careful, work)
        # The time limit's exception comes at any moment, and is not the model's.
        except SoftTimeLimitExceeded:
            raise
        # Whatever a model raises is a failure to score; MemoryError must not reach Celery, whose
        # parent process would end with it.
        except Exception as error:  # noqa: BLE001
            ours = _translated(self.model, error)
            raise ours from (None if ours is error else error)

    def _score(
        self, pairs: Sequence[Pair], before_batch: engines.BeforeBatch, careful: bool, work: Work
    ) -> Scores:
        numbers: dict[Pair, int] = {}
        of = [numbers.setdefault((query, text), len(numbers)) for query, text in pairs]
        scored = self._engine.run(list(numbers), before_batch, work, careful=careful)
        if len(scored.scores) != len(numbers):
            raise BadScores(f"{len(scored.scores)} scores for {len(numbers)} pairs")
        bad = int(np.sum(~np.isfinite(scored.scores)))
        if bad:
            raise BadScores(f"{bad} of {scored.scores.size} scores are not finite numbers")
        return Scores(
            logits=scored.scores[of].tolist() if of else [],
            unique_pairs=len(numbers),
            tokens=scored.tokens,
            cut=[scored.truncated[number] for number in of],
        )

    def _warm_up(self) -> None:
        """Score unequal pairs, then the largest shape, so that lack of memory shows at once."""
        self._check(engines.UNEQUAL_PROBES)
        warmup.grow(self.model, self.max_length, self._score_full_batches)

    def _score_full_batches(self, length: int) -> None:
        """Score as many pairs of this length (tokens) as all threads take at once."""
        longest = " a" * length  # a word is at least one token
        in_batch = max(1, self._engine.budget.full // length)
        pairs = in_batch * self._engine.batches_at_once
        self._check([(f"query {number}", longest) for number in range(pairs)])

    def _check(self, pairs: Sequence[Pair]) -> None:
        self._score(pairs, engines.nothing, careful=False, work=Work())


def _translated(model: str, error: Exception) -> RerankError:
    """Our error for one that the model raised."""
    if isinstance(error, BadScores):
        return BadScores(failed(model, error))
    if isinstance(error, RerankError):
        return error
    if memory.ran_out(error):
        return OutOfMemory(failed(model, error))
    return ScoringError(failed(model, error))


def failed(model: str, cause: object) -> str:
    """The message of an error while scoring."""
    name = names.short_name(model)
    text = str(cause) or type(cause).__name__
    return f"Reranking failed for model {name}: {text}"
