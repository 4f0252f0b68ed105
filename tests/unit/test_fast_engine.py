"""Our own BERT returns the same bits in any batch and thread, and fails as a whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from tests.unit import tiny_models
from tests.unit.predict_scores import (
    PAIRS,
    QUERY,
    TOLERANCE,
    apart,
    fast_engine,
    open_encoder,
)
from worker.engine.backoff import BatchBudget
from worker.engine.batches import ScoreArray
from worker.engine.choice import exact_linears
from worker.engine.fast_engine import FastEngine
from worker.engine.pair_layout import PairTokens
from worker.engine.statistics import BatchStatistics
from worker.engine.threads import torch_threads

# Batches and threads


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_scores_do_not_depend_on_threads_and_budget(
    bundled: CrossEncoder, bundled_logits: Any, threads: int, budget: int
) -> None:
    engine = fast_engine(bundled, threads)
    engine.tune(threads, budget)
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


#: Sizes for which libraries may have their own kernels. Rows that are not multiples of 16 bytes are
#: left out, because the order of their additions depends on where a row begins.
SHAPES: list[dict[str, Any]] = [
    {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 1, "intermediate_size": 64},
    {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 50},
    {"num_hidden_layers": 2, "hidden_size": 36, "num_attention_heads": 3, "intermediate_size": 65},
    {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 96},
    {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4},
]


@pytest.mark.arithmetic
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"h{shape['hidden_size']}")
def test_scores_are_the_same_to_the_last_bit_in_any_batch_and_thread(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    encoder = open_encoder(tiny_models.bert(tmp_path, **shape))
    one_thread = fast_engine(encoder)
    together = one_thread.run(PAIRS).scores
    assert together.std() > 100 * TOLERANCE

    alone = [one_thread.run([pair]).scores[0] for pair in PAIRS]
    assert np.array_equal(together, alone)
    for threads, budget in [(1, 1), (1, 777), (2, 100), (2, 100_000), (3, 1), (3, 777)]:
        engine = fast_engine(encoder, threads)
        engine.budget = BatchBudget(budget)
        assert np.array_equal(engine.run(PAIRS[::-1]).scores[::-1], together)
        some = engine.run(PAIRS[3:20:2], small_batches=True).scores
        assert np.array_equal(some, together[3:20:2])


class StruckByTimeLimit(Exception):
    """An error like Celery's time limit, which occurs at any moment."""


class Failing(FastEngine):
    """Fails at the first batch, once a second one is being scored, if it has an error to raise."""

    error: BaseException | None = None
    begun = 0
    inside = 0

    def __init__(self, encoder: CrossEncoder) -> None:
        super().__init__(encoder, exact_linears(encoder)[0], threads=2)
        self._together = threading.Barrier(2)
        self._counting = threading.Lock()

    def _forward(self, pairs: Sequence[PairTokens], statistics: BatchStatistics) -> ScoreArray:
        if self.error is None:
            return super()._forward(pairs, statistics)
        with self._counting:
            place = self.begun
            self.begun += 1
            self.inside += 1
        try:
            if place < 2:
                self._together.wait(30)
            if place == 0:
                raise self.error
            for _ in range(20):  # far longer than the error needs to be raised
                scores = super()._forward(pairs, statistics)
            return scores
        finally:
            with self._counting:
                self.inside -= 1


@pytest.mark.parametrize("error", [RuntimeError("a kernel failed"), StruckByTimeLimit()])
def test_an_error_in_one_thread_comes_out_once_all_threads_have_ended(
    bundled: CrossEncoder, bundled_logits: Any, error: Exception
) -> None:
    engine = Failing(bundled)
    engine.budget = BatchBudget(1)
    # Given an error while another batch is being scored
    engine.error = error
    with torch_threads(3):
        with pytest.raises(type(error)) as caught:
            engine.run(PAIRS)
        assert torch.get_num_threads() == 3
    # Then it is raised, no thread continues, and the next run succeeds
    assert caught.value is error
    assert 2 <= engine.begun < len(PAIRS)
    assert engine.inside == 0
    engine.error = None
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


class StrikesWhileSubmitting(ThreadPoolExecutor):
    """Threads that have half of the work when the time limit strikes."""

    def __init__(self, place: int) -> None:
        super().__init__(1)
        self.place = place
        self.given: list[Future[Any]] = []

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
        if len(self.given) == self.place:
            raise StruckByTimeLimit
        self.given.append(super().submit(function, *given, **named))
        return self.given[-1]


def test_the_time_limit_leaves_no_work_behind_though_not_all_was_handed_out(
    bundled: CrossEncoder,
) -> None:
    engine = fast_engine(bundled, threads=2)
    engine.budget = BatchBudget(1)
    engine._pool._pool = pool = StrikesWhileSubmitting(place=400)
    with pool:
        with pytest.raises(StruckByTimeLimit):
            engine.run([(QUERY, f"package {number}") for number in range(500)])
        left = [future for future in pool.given if not future.done()]
        pool.shutdown(cancel_futures=True)
    assert len(pool.given) == 400
    assert left == []
