"""Our own BERT is used only for plain BERT classifiers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder

from tests.unit import tiny_models
from worker.engine.bert import supports
from worker.engine.model_paths import bundled_path


def test_the_bundled_model_is_supported() -> None:
    assert supports(CrossEncoder(str(bundled_path()), device="cpu"))


@pytest.mark.parametrize("positions", [64, 512, 1_024])
def test_a_plain_bert_is_supported(tmp_path: Path, positions: int) -> None:
    path = tiny_models.bert(tmp_path, max_position_embeddings=positions)
    assert supports(CrossEncoder(path, device="cpu"))


def bert_with(**config: Any) -> Callable[[Path], CrossEncoder]:
    return lambda folder: CrossEncoder(tiny_models.bert(folder, **config), device="cpu")


def prompted(folder: Path) -> CrossEncoder:
    return CrossEncoder(
        tiny_models.bert(folder),
        device="cpu",
        prompts={"search": "find: "},
        default_prompt_name="search",
    )


def roberta(folder: Path) -> CrossEncoder:
    return CrossEncoder(tiny_models.roberta(folder), device="cpu")


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(roberta, id="RoBERTa"),
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
    assert not supports(load(tmp_path))
