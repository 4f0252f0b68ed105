"""Scoring counts all of its work for pairs, and none of its work to warm up."""

from __future__ import annotations

import numpy as np
import pytest

from contract import metrics
from contract.errors import ScoringError
from worker.engine import BatchStatistics, Scorer, backoff, batches, load
from worker.engine.backoff import BatchBudget
from worker.runtime.counters import PendingCounters, WorkerObserver
from worker.runtime.load_progress import LoadProgress

PAIRS = [("a query", f"document number {place} " + "word " * place) for place in range(40)]
MODEL = "bundled"


@pytest.fixture(scope="module")
def counters() -> PendingCounters:
    return PendingCounters()


@pytest.fixture(scope="module")
def observer(counters: PendingCounters) -> WorkerObserver:
    return WorkerObserver(counters, LoadProgress())


@pytest.fixture(scope="module")
def scorer(observer: WorkerObserver) -> Scorer:
    return load(MODEL, threads=2, max_batch_tokens=256, observer=observer)


@pytest.fixture(autouse=True)
def counted_before(counters: PendingCounters, scorer: Scorer) -> None:
    """Ignore what was counted before the test."""
    counters.take()


def test_what_was_taken_is_not_taken_again(counters: PendingCounters) -> None:
    counters.add({"this": 1, "that": 2})
    counters.add({"this": 0.5})

    assert counters.take() == {"this": 1.5, "that": 2}
    assert counters.take() == {}


def test_loading_is_counted_and_warming_up_is_no_scoring(
    counters: PendingCounters, observer: WorkerObserver
) -> None:
    load(MODEL, threads=1, max_batch_tokens=256, observer=observer)

    counted = counters.take()
    assert set(counted) == {metrics.LOADS.field(MODEL), metrics.LOADING_S.field(MODEL)}
    assert counted[metrics.LOADS.field(MODEL)] == 1
    assert counted[metrics.LOADING_S.field(MODEL)] > 0


def test_batches_and_their_padding_are_counted(counters: PendingCounters, scorer: Scorer) -> None:
    tokens = scorer.score_pairs(PAIRS).tokens

    counted = counters.take()
    batches, padding = counted[metrics.BATCHES.field(MODEL)], counted[metrics.PADDING.field(MODEL)]
    # Rows of a batch are padded to multiples of sixteen, and a batch holds at most 256 tokens
    assert tokens / 256 <= batches
    assert 0 <= padding <= 15 * batches
    assert (tokens + padding) % 16 == 0
    assert counted[metrics.SCORING_S.field(MODEL)] > 0
    assert counted[metrics.SHORTAGES.field(MODEL)] == 0


def test_padding_of_predict_is_up_to_the_longest_of_a_batch(
    counters: PendingCounters, observer: WorkerObserver
) -> None:
    statistics = BatchStatistics(batch_tokens=[20, 30], pair_tokens=41, seconds=0.1)
    observer.scored("m", statistics)

    assert counters.take()[metrics.PADDING.field("m")] == 9


def test_lack_of_memory_is_counted_also_if_nothing_comes_of_it(
    counters: PendingCounters, observer: WorkerObserver, scorer: Scorer
) -> None:
    with pytest.raises(ScoringError):
        scorer.score([("a query", "a lone surrogate: \ud800")])
    assert counters.take()[metrics.BATCHES.field(MODEL)] == 0

    statistics = BatchStatistics(
        batch_tokens=[64], out_of_memory=3, budget_reductions=2, seconds=0.5
    )
    observer.scored(MODEL, statistics)
    counted = counters.take()
    assert counted[metrics.SHORTAGES.field(MODEL)] == 3
    assert counted[metrics.HALVINGS.field(MODEL)] == 2
    assert counted[metrics.SCORING_S.field(MODEL)] == 0.5
    assert counted[metrics.BATCHES.field(MODEL)] == counted[metrics.PADDING.field(MODEL)] == 0


def test_each_time_that_batches_are_halved_is_counted() -> None:
    # Given memory for batches of two pairs
    def attempt_batches(made: backoff.Batches, _: bool) -> list[backoff.BatchOutcome]:
        return [
            np.zeros(len(batch), np.float32) if len(batch) <= 2 else MemoryError() for batch in made
        ]

    # When eight are tried at once
    statistics = BatchStatistics()
    backoff.score_with_backoff(
        [8] * 8,
        BatchBudget(64),
        lambda lengths, most: list(batches.make_batches(lengths, most)),
        attempt_batches,
        statistics,
    )

    # Then memory ran out for eight, and for four
    assert (statistics.out_of_memory, statistics.budget_reductions) == (2, 2)
