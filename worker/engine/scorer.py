"""The entry point to a model: text pairs in, scores out, in the caller's order.

It does not know about jobs, queries or ranks. Duplicate pairs are scored once, and an engine scores
the unique ones (see `worker.engine.protocol`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

from contract.errors import BadScores, OutOfMemory, RerankError, ScoringError
from contract.models import short_name
from contract.passages import Passages
from contract.printable import reason_of
from contract.scoring import ScoringIdentity
from worker.engine import cuda_errors, memory
from worker.engine.cuda_errors import GpuFailed
from worker.engine.observer import EngineObserver
from worker.engine.passage_scores import score_passages
from worker.engine.protocol import BeforeBatch, Engine, Pair, do_nothing
from worker.engine.scoring_version import SCORING_VERSION
from worker.engine.statistics import BatchStatistics
from worker.engine.unique_pairs import ScoredPairs, score_unique


class Scorer:
    """A model that scores pairs. Threads can share it; they take turns.

    Use `worker.engine.load` to create one from a model's name. `model`, `device`,
    `revision` and `prompt` appear in messages and in the provenance of a result. `observer` is
    called with the statistics of each call. Exceptions of the types `passed_through` reach the
    caller unchanged.
    """

    def __init__(
        self,
        engine: Engine,
        model: str,
        device: str = "cpu",
        revision: str | None = None,
        prompt: str | None = None,
        *,
        observer: EngineObserver | None = None,
        passed_through: tuple[type[Exception], ...] = (),
    ) -> None:
        self.engine = engine
        self.model = model
        self.device = device
        #: The commit of a model on the hub, or the fingerprint of a local model's files.
        self.revision = revision
        #: The prompt that was set for the model; None if it reads its own, or none.
        self.prompt = prompt
        self.labels = engine.labels
        self.max_length = engine.max_length
        self._observer = observer or EngineObserver()
        self._passed_through = passed_through
        self._turn = threading.Lock()

    @property
    def backend(self) -> str:
        """`rerankq` (the fast exact path), `sentence-transformers` or `stub`."""
        return self.engine.backend

    @property
    def dtype(self) -> str:
        """The precision of the weights."""
        return self.engine.dtype

    @cached_property
    def identity(self) -> ScoringIdentity | None:
        """The identity of the scoring; None if the model's version is not known."""
        return ScoringIdentity.known(
            model=self.model,
            revision=self.revision,
            version=SCORING_VERSION,
            backend=self.backend,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            prompt=self.prompt,
        )

    def score(self, pairs: Sequence[Pair]) -> list[Any]:
        """Return the raw logits of (query, document) pairs, in their order.

        Raises `ScoringError`, or `OutOfMemory`.
        """
        return self.score_pairs(pairs).logits

    def score_pairs(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        *,
        passages: Passages | None = None,
        small_batches: bool = False,
    ) -> ScoredPairs:
        """Score as `score` does, and return statistics with the scores.

        With `passages`, documents are cut into passages, and a document's score follows from those
        of its passages.

        `before_batch` is called before each batch, and can stop scoring by raising a `RerankError`.
        Use `small_batches` where memory may be short.
        """
        statistics = BatchStatistics()
        with self._turn:
            began = time.perf_counter()
            try:
                scored = self._score(pairs, before_batch, statistics, passages, small_batches)
                statistics.pair_tokens = scored.tokens
            # The time limit's exception can occur anywhere, and is not an error of the model.
            except self._passed_through:
                raise
            # Every error of a model is a scoring failure. A MemoryError must not reach Celery,
            # because its parent process would exit.
            except Exception as error:  # noqa: BLE001
                ours = _translated(self.model, error)
                raise ours from (None if ours is error else error)
            finally:
                statistics.seconds = time.perf_counter() - began
                self._observer.scored(self.model, statistics)
        return scored

    def _score(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch,
        statistics: BatchStatistics,
        passages: Passages | None,
        small_batches: bool,
    ) -> ScoredPairs:
        score = score_unique if passages is None else partial(score_passages, passages)
        return score(self.engine, pairs, before_batch, statistics, small_batches=small_batches)


def failure_message(model: str, cause: BaseException) -> str:
    """Return the message for an error during scoring."""
    return f"Reranking failed for model {short_name(model)}: {reason_of(cause)}"


def _translated(model: str, error: Exception) -> RerankError:
    """Return our error for an error that the model raised."""
    if isinstance(error, BadScores):
        return BadScores(failure_message(model, error))
    if isinstance(error, RerankError):
        return error
    if memory.ran_out(error):
        return OutOfMemory(failure_message(model, error))
    if cuda_errors.ends_the_gpu(error):
        return GpuFailed(failure_message(model, error))
    return ScoringError(failure_message(model, error))
