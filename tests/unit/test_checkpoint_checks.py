"""A model that is not the trained reranker it seems to be is refused, in one line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from contract.errors import ModelUnavailable
from tests.unit import odd_models, tiny_models
from worker.engine import ScorerCache, load
from worker.engine.checkpoint import load_encoder

PAIRS = [
    ("how do I open a pdf", "a tool to open and print PDF files"),
    ("a mail server", ""),
    ("the cat", "sat on the mat " * 40),
    ("the cat", "the dog sat"),
]

#: A sentence that begins with what to do.
FIX = re.compile(r"\S\. (Add|Correct|Download|Install|Merge|Run|Set|Use) ")

#: The function that makes a folder of each kind, and parts of its error.
BAD: dict[str, tuple[Callable[[Path], str], str]] = {
    "head missing, named as a classifier": (
        odd_models.headless_as_classifier,
        "no trained scoring head (missing weights: classifier.bias, classifier.weight)",
    ),
    "head missing, named as nothing": (
        odd_models.headless_as_nothing,
        "no trained scoring head (missing weights: classifier.bias, classifier.weight)",
    ),
    "half of the head missing": (
        odd_models.without("classifier.weight"),
        "no trained scoring head (missing weights: classifier.weight)",
    ),
    "pooler missing": (
        odd_models.without("bert.pooler.dense.weight", "bert.pooler.dense.bias"),
        "checkpoint is incomplete (missing weights: bert.pooler.dense.bias, bert.pooler.dense.w",
    ),
    "a bias of a layer missing": (
        odd_models.without("bert.encoder.layer.1.output.dense.bias"),
        "missing weights: bert.encoder.layer.1.output.dense.bias",
    ),
    "more layers than weights": (
        odd_models.more_layers,
        "missing weights: bert.encoder.layer.2.attention.output.LayerNorm.bias",
    ),
    "fewer layers than weights": (odd_models.fewer_layers, "fewer layers than its weights"),
    "weights of another shape": (
        odd_models.other_shape,
        "its weights do not match its config.json: bert.embeddings.LayerNorm.bias has shape [32]"
        " instead of [48]",
    ),
    "embedding model": (odd_models.embedding_model, "no trained scoring head"),
    "token classifier": (odd_models.token_classifier, "it was saved as BertForTokenClassification"),
    "language model": (odd_models.generator, "(Qwen3ForCausalLM) that was not saved as a reranker"),
    "sequence to sequence": (odd_models.seq2seq, "it was saved as T5ForConditionalGeneration"),
    "several labels": (odd_models.several_labels, "it returns 3 scores per pair"),
    "weights that are NaN": (odd_models.not_a_number, "NaN or infinity: classifier.weight"),
    "weights that are infinite": (odd_models.infinite, "NaN or infinity: classifier.weight"),
    "scores that are no numbers": (odd_models.overflows, "scores are not finite (NaN or infinity)"),
    "vocabulary larger than the embedding": (
        odd_models.vocabulary_too_large,
        f"token ids up to {tiny_models.WORDS - 1:,}, but its weights have only 1,000 embeddings",
    ),
    "neither padding nor end token": (
        odd_models.no_padding_token,
        "its tokenizer has neither a padding token nor an end-of-text token",
    ),
    "no room for a pair": (
        odd_models.no_room,
        "its maximum length is 3 tokens, but the shortest pair has 5",
    ),
    "no tokenizer": (odd_models.no_tokenizer, "tokenizer"),
    "no config.json": (odd_models.no_config, "config.json"),
    "config.json is not JSON": (odd_models.config_is_not_json, "config.json"),
    "config.json is a list": (odd_models.config_is_a_list, "config.json"),
    "tokenizer.json is not JSON": (
        odd_models.tokenizer_is_not_json,
        "tokenizer.json is not valid JSON",
    ),
    "a model of images": (odd_models.of_images, "AutoModelForSequenceClassification"),
    "another number of token types": (odd_models.one_token_type, "index out of range"),
    "a pickle that runs code": (odd_models.running_pickle, "contain more than tensors"),
    "a pickle that is none": (odd_models.no_pickle, "PytorchStreamReader failed"),
    "quantized": (odd_models.quantized, "optimum"),
    "activation unknown to torch": (odd_models.unknown_activation, "Nope"),
    "maximum length below zero": (odd_models.negative_length, "its maximum length is -1 tokens"),
    "architecture unknown": (odd_models.unknown_type, "never-heard-of"),
    "code of its own": (odd_models.remote_code, "rerankq does not run code from a model"),
    "weights empty": (odd_models.empty_weights, "model.safetensors"),
    "weights cut off": (odd_models.cut_weights, "model.safetensors"),
    "weights a pointer of Git LFS": (odd_models.pointer_weights, "Run git lfs pull"),
    "no weights": (odd_models.no_weights, "model.safetensors"),
    "a shard missing": (odd_models.shard_missing, "model-00002-of-00002.safetensors"),
    "an adapter": (odd_models.adapter, "PEFT"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_model_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    make, reason = BAD[kind]
    path = make(tmp_path / "bad")
    with pytest.raises(ModelUnavailable) as caught:
        ScorerCache().get(path, "cpu", 1, 512)
    line = str(caught.value)
    assert line.startswith(f"model {path!r} cannot be ")
    assert reason in line
    assert FIX.search(line)
    assert "\n" not in line
    assert "trust_remote_code" not in line
    assert len(line) < 1_000


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nobody/never-published@v1.0", "in the Hugging Face cache and on the Hugging Face hub"),
        ("nobody/never/published", "'nobody/never/published'"),
    ],
)
def test_a_bad_name_is_refused_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        ScorerCache().get(name, "cpu", 1, 512)
    line = str(caught.value)
    assert line.startswith(f"model {name!r} cannot be ")
    assert reason in line
    assert FIX.search(line)
    assert "\n" not in line


def test_nothing_but_the_error_says_what_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # transformers prints a table of many lines for it, with advice on training
    path = odd_models.headless_as_nothing(tmp_path / "bad")
    with caplog.at_level(logging.WARNING), pytest.raises(ModelUnavailable):
        load(path)
    assert caplog.messages == []
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_an_activation_function_that_is_code_of_the_models_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_models.bert(tmp_path)
    expected = load(path, threads=1, max_batch_tokens=512).score(PAIRS)
    theirs = {"activation_fn": "theirs.Activation"}
    tiny_models.edit_json(tmp_path / "config.json", sentence_transformers=theirs)
    with caplog.at_level(logging.WARNING):
        assert load(path, threads=1, max_batch_tokens=512).score(PAIRS) == expected
    assert "rerankq does not run code from a model" in caplog.text
    assert "trust_remote_code" not in caplog.text


# Valid models


SOUND = [
    odd_models.xlmr,
    odd_models.electra,
    odd_models.distilbert,
    odd_models.modernbert,
    odd_models.t5,
    odd_models.qwen3,
    odd_models.older_file,
    tiny_models.roberta,
]


@pytest.mark.parametrize("make", SOUND)
def test_a_sound_model_gives_each_pair_the_score_that_it_has_alone(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    scorer = load(make(tmp_path / "model"), threads=1, max_batch_tokens=512)
    alone = [scorer.score([pair])[0] for pair in PAIRS]
    assert np.allclose(scorer.score(PAIRS), alone, atol=1e-4)
    assert len(set(alone)) > 1


def test_a_pooler_that_no_score_depends_on_may_be_missing(tmp_path: Path) -> None:
    # A reranker of several modules, which has the encoder's pooler in addition to the pooling that
    # is used.
    path = odd_models.pooled(tmp_path / "model")
    expected = load(path).score(PAIRS)
    assert any("pooler" in key for key in load_file(tmp_path / "model" / "model.safetensors"))
    odd_models.edit_weights(
        tmp_path / "model",
        lambda weights: [weights.pop(key) for key in list(weights) if "pooler" in key],
    )
    assert load(path).score(PAIRS) == pytest.approx(expected, abs=1e-6)


def test_weights_in_a_pickle_of_tensors_are_read(tmp_path: Path) -> None:
    # With `weights_only`, no code in it is run (see test_loading).
    path = tiny_models.bert(tmp_path)
    expected = load(path, threads=1, max_batch_tokens=512).score(PAIRS)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert load(path, threads=1, max_batch_tokens=512).score(PAIRS) == expected


def test_a_language_model_that_was_saved_as_a_reranker_is_served(tmp_path: Path) -> None:
    path = odd_models.generative_reranker(tmp_path / "model")
    scorer = load(path, threads=1, max_batch_tokens=512)
    assert np.allclose(scorer.score(PAIRS), [scorer.score([pair])[0] for pair in PAIRS], atol=1e-4)


def test_what_is_in_the_cache_and_unfit_is_named_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "models--nobody--never-published"
    odd_models.headless_as_nothing(stored / "snapshots" / ("0" * 40))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("0" * 40)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    with pytest.raises(
        ModelUnavailable, match=r"missing weights: classifier\.bias, classifier\.weight"
    ):
        load_encoder("nobody/never-published", "cpu")


def test_a_cached_model_with_code_of_its_own_is_named_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "models--nobody--never-published"
    odd_models.remote_code(stored / "snapshots" / ("0" * 40))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("0" * 40)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="rerankq does not run code from a model"):
        load_encoder("nobody/never-published", "cpu")


def test_a_broken_list_of_modules_is_refused(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps({"0": "nothing"}))
    (tmp_path / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    with pytest.raises(ModelUnavailable) as caught:
        load_encoder(path, "cpu")
    assert "\n" not in str(caught.value)
