"""The engine that scores by predict keeps its batches within the budget, including padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from tests.unit import tiny_models
from tests.unit.predict_scores import (
    PAIRS,
    TOLERANCE,
    apart,
    logits,
    open_encoder,
)
from worker.engine.batches import ScoreArray
from worker.engine.predict_engine import PredictEngine
from worker.engine.protocol import Pair


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

    def _predict(self, pairs: list[Pair]) -> ScoreArray:
        self.scored.append(pairs)
        return super()._predict(pairs)


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
