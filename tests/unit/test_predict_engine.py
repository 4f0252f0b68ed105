"""The engine that scores by predict keeps its batches within the budget, including padding."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder
from torch import Tensor

from tests.unit import odd_models, tiny_models
from tests.unit.predict_scores import (
    PAIRS,
    TOLERANCE,
    apart,
    logits,
    open_encoder,
)
from worker.engine.batches import ScoreArray
from worker.engine.lengths import untruncated_lengths
from worker.engine.predict_engine import CPU_BUDGETS, PredictEngine
from worker.engine.predict_steps import Predict, PredictSteps
from worker.engine.probes import made_up_pairs
from worker.engine.protocol import Pair
from worker.engine.threads import ScoringThreads


@pytest.mark.parametrize("budget", [1, 40, 100_000])
def test_scores_of_predict_do_not_depend_on_the_budget(tmp_path: Path, budget: int) -> None:
    path = tiny_models.roberta(tmp_path)
    scored = PredictEngine(open_encoder(path), 1, budget).run(PAIRS)
    assert apart(scored.scores, logits(path)) < TOLERANCE


class CountsPadding(PredictEngine):
    """Records its batches."""

    def __init__(self, encoder: CrossEncoder, max_batch_tokens: int) -> None:
        super().__init__(encoder, 1, max_batch_tokens)
        self.scored: list[list[Pair]] = []

    def _score_batch(self, pairs: list[Pair]) -> ScoreArray:
        self.scored.append(pairs)
        return super()._score_batch(pairs)


def test_batches_of_predict_stay_within_the_budget_with_their_padding(tmp_path: Path) -> None:
    # Given one long text among short ones, which predict pads to the longest of their batch
    encoder = open_encoder(tiny_models.roberta(tmp_path))
    engine = CountsPadding(encoder, max_batch_tokens=124)
    engine.run([("the", "cat " * words) for words in (100, *[1] * 50)])
    # Then batches are no larger than what the scorer was warmed up with
    for pairs in engine.scored:
        encoded = encoder.tokenizer(pairs, truncation=True, max_length=62, padding=True)
        padded = np.size(encoded["input_ids"])
        assert len(pairs) == 1 or padded <= engine.budget.full


# Threads


@pytest.mark.parametrize(
    "make", [odd_models.t5, odd_models.qwen3, odd_models.generative_reranker, odd_models.pooled]
)
def test_threads_that_score_a_batch_each_return_the_scores_of_predict(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    encoder = open_encoder(make(tmp_path / "model"))
    alone = [[pair] for pair in PAIRS[6:14]]
    expected = np.concatenate([Predict(encoder)(pairs) for pairs in alone])
    scores = np.concatenate(ScoringThreads(3).map(PredictSteps(encoder), alone))
    assert apart(scores, expected) < TOLERANCE < scores.std()


def test_a_model_that_is_not_safe_in_threads_scores_one_batch_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a model whose scores are others when two threads meet in it
    path = odd_models.electra(tmp_path / "model")
    encoder = open_encoder(path)
    meeting = threading.Barrier(2, timeout=60)

    def meet(_head: Any, _given: Any, logits: Tensor) -> Tensor:
        if threading.current_thread() is threading.main_thread():
            return logits
        meeting.wait()
        return logits + 1

    encoder.model.classifier.register_forward_hook(meet)
    # When the engine looks for the fastest way
    engine = PredictEngine(encoder, threads=2)
    engine.prepare(max_batch_tokens=100)
    # Then all threads score one batch, and the log reports why
    assert engine.batches_at_once == 1
    assert "not return the same scores in several threads at the same time (its" in caplog.text
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


def test_a_model_that_fails_in_threads_scores_one_batch_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = open_encoder(odd_models.electra(tmp_path / "model"))

    def fail(_head: Any, _given: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Already borrowed")

    encoder.model.classifier.register_forward_pre_hook(fail)
    engine = PredictEngine(encoder, threads=2)
    engine.prepare(max_batch_tokens=100)
    assert engine.batches_at_once == 1
    assert "several threads at the same time (Already borrowed)" in caplog.text


def test_a_batch_budget_is_found_by_measuring(tmp_path: Path) -> None:
    engine = PredictEngine(open_encoder(odd_models.electra(tmp_path / "model")), threads=2)
    engine.prepare(max_batch_tokens=None)
    assert engine.budget.full in CPU_BUDGETS
    assert engine.batches_at_once in (1, 2)


def test_made_up_pairs_have_the_lengths_of_passages(tmp_path: Path) -> None:
    encoder = open_encoder(odd_models.generative_reranker(tmp_path / "model"))
    (shortest,) = untruncated_lengths(encoder, [("a", "a")])
    pairs = made_up_pairs(4_000, shortest, encoder.tokenizer.model_max_length)
    lengths = untruncated_lengths(encoder, pairs)
    assert (min(lengths), max(lengths)) == (40, 140)
    assert sum(lengths) == pytest.approx(4_000, rel=0.15)
