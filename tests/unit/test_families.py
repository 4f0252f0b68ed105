"""A family is found only for models that its network computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder
from torch.nn import Identity

from tests.unit import tiny_models
from tests.unit.predict_scores import PAIRS, TOLERANCE, apart
from worker.engine.families import roberta
from worker.engine.families.registry import find
from worker.engine.fast_engine import FastEngine
from worker.engine.linear import Linear
from worker.engine.model_paths import bundled_path


def test_the_bundled_model_is_supported() -> None:
    assert find(CrossEncoder(str(bundled_path()), device="cpu"))


@pytest.mark.parametrize("positions", [64, 512, 1_024])
def test_a_plain_bert_is_supported(tmp_path: Path, positions: int) -> None:
    path = tiny_models.bert(tmp_path, max_position_embeddings=positions)
    assert find(CrossEncoder(path, device="cpu"))


def test_another_family_is_found(tmp_path: Path) -> None:
    assert find(CrossEncoder(tiny_models.roberta(tmp_path), device="cpu")) is roberta.FAMILY


def bert_with(**config: Any) -> Callable[[Path], CrossEncoder]:
    return lambda folder: CrossEncoder(tiny_models.bert(folder, **config), device="cpu")


def prompted(folder: Path) -> CrossEncoder:
    return CrossEncoder(
        tiny_models.bert(folder),
        device="cpu",
        prompts={"search": "find: "},
        default_prompt_name="search",
    )


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(bert_with(num_labels=3), id="several labels"),
        pytest.param(bert_with(hidden_act="relu"), id="ReLU"),
        pytest.param(bert_with(hidden_act="gelu_new"), id="approximated GELU"),
        pytest.param(bert_with(type_vocab_size=1), id="one token type"),
        pytest.param(bert_with(is_decoder=True), id="sees no later tokens"),
        pytest.param(prompted, id="with a prompt"),
    ],
)
def test_what_it_would_compute_otherwise_is_not_supported(
    tmp_path: Path, load: Callable[[Path], CrossEncoder]
) -> None:
    assert not find(load(tmp_path))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_modernbert_in_modules_is_scored_as_by_predict(tmp_path: Path, pooling: str) -> None:
    encoder = CrossEncoder(tiny_models.modernbert_modules(tmp_path, pooling), device="cpu")
    engine = FastEngine(encoder, Linear, threads=1)
    expected = encoder.predict(PAIRS, activation_fn=Identity())
    assert apart(engine.run(PAIRS).scores, expected) < TOLERANCE
    assert expected.std() > 100 * TOLERANCE


def test_modules_that_are_not_known_are_not_supported(tmp_path: Path) -> None:
    encoder = CrossEncoder(tiny_models.modernbert_modules(tmp_path, "max"), device="cpu")
    assert find(encoder) is None
