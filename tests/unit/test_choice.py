"""The fast engine is used where it returns the scores of predict, and only there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor
from transformers import BertForSequenceClassification, BertJapaneseTokenizer

from tests.unit import tiny_models, varlen_layout
from tests.unit.predict_scores import (
    DOCUMENTS,
    PAIRS,
    QUERY,
    TOLERANCE,
    apart,
    chosen,
    fast_engine,
    logits,
    open_encoder,
    predicted,
)
from worker.engine.choice import (
    MakeFunction,
    choose,
    exact_linears,
    fastest_exact,
    on_gpu,
)
from worker.engine.fast_engine import CPU_BUDGETS
from worker.engine.linear import Linear, PackedLinear
from worker.engine.predict_engine import PredictEngine
from worker.engine.probes import PROBES
from worker.engine.varlen import VarlenFunction
from worker.engine.varlen_functions import FUNCTIONS, padded


def with_activation(folder: Path, name: str, **given: Any) -> str:
    """Return a BERT with this activation in its config."""
    path = tiny_models.bert(folder, **given)
    settings = {"activation_fn": f"torch.nn.modules.activation.{name}"}
    tiny_models.edit_json(folder / "config.json", sentence_transformers=settings)
    return path


# The choice


def bert(folder: Path) -> str:
    return tiny_models.bert(folder)


def one_layer(folder: Path) -> str:
    return tiny_models.bert(folder, num_hidden_layers=1, num_attention_heads=4)


def relu(folder: Path) -> str:
    return tiny_models.bert(folder, hidden_act="relu")


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        (bert, "rerankq"),
        (one_layer, "rerankq"),
        (relu, "sentence-transformers"),
        (tiny_models.roberta, "rerankq"),
    ],
)
def test_a_model_is_scored_as_by_predict_in_the_fastest_way_there_is(
    tmp_path: Path, make: Callable[[Path], str], backend: str
) -> None:
    path = make(tmp_path)
    engine = chosen(open_encoder(path))
    scored = engine.run(PAIRS)
    assert engine.backend == backend
    assert engine.dtype == "float32"
    assert apart(scored.scores, logits(path)) < TOLERANCE
    assert scored.scores.std() > 100 * TOLERANCE


@pytest.mark.arithmetic
def test_the_bundled_model_is_scored_the_fast_way(
    bundled: CrossEncoder, bundled_logits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "worker.engine.choice"):
        engine = chosen(bundled)
    assert engine.backend == "rerankq"
    assert "which matches CrossEncoder.predict within" in caplog.text
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_no_pairs_have_no_scores(tmp_path: Path, make: Callable[[Path], str]) -> None:
    scored = chosen(open_encoder(make(tmp_path))).run([])
    assert (len(scored.scores), scored.tokens, scored.truncated) == (0, 0, [])


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_tokens_and_cuts_are_those_of_the_tokenizer(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    encoder = open_encoder(make(tmp_path))
    scored = chosen(encoder).run(PAIRS)
    most = encoder.max_seq_length
    queries, documents = zip(*PAIRS, strict=True)
    whole = [len(ids) for ids in encoder.tokenizer(list(queries), list(documents))["input_ids"]]
    assert scored.truncated == [length > most for length in whole]
    assert any(scored.truncated)
    assert scored.tokens == sum(min(length, most) for length in whole)


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_what_is_asked_for_is_taken(tmp_path: Path, make: Callable[[Path], str]) -> None:
    engine = choose(open_encoder(make(tmp_path)), threads=3, max_batch_tokens=777)
    assert (engine.threads, engine.budget.full) == (3, 777)


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_what_is_not_asked_for_is_found(tmp_path: Path, make: Callable[[Path], str]) -> None:
    engine = choose(open_encoder(make(tmp_path)), threads=None, max_batch_tokens=None)
    assert 1 <= engine.threads <= joblib.cpu_count()
    assert engine.budget.full in CPU_BUDGETS


@pytest.mark.parametrize("positions", [16, 64, 128])
def test_a_model_that_reads_little_is_measured_within_its_limits(
    tmp_path: Path, positions: int
) -> None:
    path = tiny_models.bert(tmp_path, max_position_embeddings=positions)
    engine = choose(open_encoder(path), threads=None, max_batch_tokens=None)
    assert engine.backend == "rerankq"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


def test_a_model_that_knows_few_words_is_measured_with_those(tmp_path: Path) -> None:
    letters = [f"{before}{letter}" for letter in "adfhinopw" for before in ("", "##")]
    tokenizer = tiny_models.in_pairs(tiny_models.wordpiece(letters))
    path = tiny_models.bert(tmp_path, tokenizer=tokenizer, vocab_size=len(tokenizer))
    engine = choose(open_encoder(path), threads=None, max_batch_tokens=None)
    assert engine.backend == "rerankq"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


# The verification


def test_probes_are_of_mixed_lengths_up_to_more_than_the_model_reads(
    bundled: CrossEncoder,
) -> None:
    scored = fast_engine(bundled).run(PROBES)
    assert scored.truncated.count(True) == 1
    assert len(scored.truncated) == len(PROBES) > 3


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param("[CLS] $A $B:1 [SEP]:1", id="no separator"),
        pytest.param("[CLS] $A [SEP] $B:1", id="no end"),
        pytest.param("[CLS] $A [SEP] [SEP] $B:1 [SEP]:1", id="two separators"),
        pytest.param("[CLS] [CLS] $A [SEP] $B:1 [SEP]:1", id="two tokens in front"),
    ],
)
def test_special_tokens_are_laid_out_as_by_the_tokenizer(tmp_path: Path, pair: str) -> None:
    backend = tiny_models.bert_tokenizer().backend_tokenizer
    path = tiny_models.bert(tmp_path, tokenizer=tiny_models.in_pairs(backend, pair))
    engine = chosen(open_encoder(path))
    assert engine.backend == "rerankq"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param("[CLS] $B [SEP] $A:1 [SEP]:1", id="document and query swapped"),
        pytest.param("$A [SEP] $B:1 [SEP]:1", id="no token in front"),
    ],
)
def test_pairs_that_cannot_be_laid_out_are_scored_by_predict(tmp_path: Path, pair: str) -> None:
    backend = tiny_models.bert_tokenizer().backend_tokenizer
    path = tiny_models.bert(tmp_path, tokenizer=tiny_models.in_pairs(backend, pair))
    engine = chosen(open_encoder(path))
    assert engine.backend == "sentence-transformers"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


def test_a_tokenizer_with_one_token_type_for_both_texts_is_found_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a plain BERT whose tokenizer is unlike BERT's
    backend = tiny_models.bert_tokenizer().backend_tokenizer
    one_type = tiny_models.in_pairs(backend, "[CLS] $A [SEP] $B [SEP]")
    path = tiny_models.bert(tmp_path, tokenizer=one_type)
    # When an engine is chosen for it
    engine = chosen(open_encoder(path))
    # Then the slow one is chosen, which is right, and the log reports it
    assert engine.backend == "sentence-transformers"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "Scoring with CrossEncoder.predict instead of the fast path: its scores differ"
    )


def test_a_tokenizer_that_lays_pairs_out_as_berts_does_is_not(tmp_path: Path) -> None:
    backend = tiny_models.bert_tokenizer().backend_tokenizer
    path = tiny_models.bert(tmp_path, tokenizer=tiny_models.in_pairs(backend))
    assert chosen(open_encoder(path)).backend == "rerankq"


def test_a_tokenizer_that_gives_no_token_types_is_found_out(tmp_path: Path) -> None:
    tokenizer = tiny_models.in_pairs(tiny_models.bert_tokenizer().backend_tokenizer)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    path = tiny_models.bert(tmp_path, tokenizer=tokenizer)
    engine = chosen(open_encoder(path))
    assert engine.backend == "sentence-transformers"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


@pytest.mark.parametrize("positions", [512, 1_024])
def test_a_tokenizer_that_cuts_off_the_beginning_is_found_out(
    tmp_path: Path, positions: int
) -> None:
    path = tiny_models.bert(tmp_path, max_position_embeddings=positions)
    tiny_models.edit_json(
        tmp_path / "tokenizer_config.json", truncation_side="left", model_max_length=positions
    )
    pairs = [(QUERY, " ".join(f"word{number}" for number in range(2_000)))]
    assert apart(chosen(open_encoder(path)).run(pairs).scores, logits(path, pairs)) < TOLERANCE


def test_a_tokenizer_written_in_python_is_used_by_predict(tmp_path: Path) -> None:
    # Japanese BERTs have such a tokenizer.
    vocabulary = tmp_path / "vocab.txt"
    words = tiny_models.bert_tokenizer().get_vocab()
    vocabulary.write_text("\n".join(sorted(words, key=words.__getitem__)))
    japanese: Any = BertJapaneseTokenizer
    tokenizer = japanese(str(vocabulary), word_tokenizer_type="basic", model_max_length=512)
    path = tiny_models.bert(tmp_path / "model", tokenizer=tokenizer)
    engine = chosen(open_encoder(path))
    assert engine.backend == "sentence-transformers"
    scored = engine.run(PAIRS)
    assert apart(scored.scores, logits(path)) < TOLERANCE
    assert scored.truncated == [document == DOCUMENTS[5] for document in DOCUMENTS]


def test_scores_that_are_no_numbers_prove_nothing(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, change=tiny_models.fill_head(3e38))
    assert chosen(open_encoder(path)).backend == "sentence-transformers"


class Missing(PackedLinear):
    """Packed layers of a torch that lacks their operator."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        torch.ops.mkldnn._no_such_operator(weight, bias)


class Refusing(PackedLinear):
    """Packed layers of a torch that has their operator, but not for this CPU."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        raise RuntimeError("not on this CPU")


class WithoutPrimitive(PackedLinear):
    """Packed layers whose kernel cannot be made, which looks the same as a lack of memory."""

    def __call__(self, x: Tensor) -> Tensor:
        raise RuntimeError("could not create a primitive descriptor")


class Wrong(PackedLinear):
    """Packed layers that compute something else."""

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        return residual


@pytest.mark.parametrize("linear", [Missing, Refusing, WithoutPrimitive, Wrong])
def test_without_packed_layers_plain_ones_are_taken_and_the_log_says_so(
    bundled: CrossEncoder,
    bundled_logits: Any,
    caplog: pytest.LogCaptureFixture,
    linear: type[Linear],
) -> None:
    with caplog.at_level(logging.INFO, "worker.engine.choice"):
        engine = choose(bundled, threads=1, max_batch_tokens=512, linears=(linear, Linear))
    assert engine.backend == "rerankq"
    assert "Falling back to plain layers, which are slower: " in caplog.text
    assert linear.__name__ in caplog.text
    assert "which matches CrossEncoder.predict within" in caplog.text
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


# Activations and labels


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_a_sigmoid_is_left_out(tmp_path: Path, make: Callable[[Path], str]) -> None:
    path = make(tmp_path)
    scores = chosen(open_encoder(path)).run(PAIRS).scores
    assert apart(1 / (1 + np.exp(-scores)), predicted(path)) < TOLERANCE
    assert apart(scores, predicted(path)) > 0.1


def test_an_activation_of_the_models_own_making_is_kept(tmp_path: Path) -> None:
    path = with_activation(tmp_path, "Tanh")
    assert apart(chosen(open_encoder(path)).run(PAIRS).scores, predicted(path)) < TOLERANCE
    assert apart(predicted(path), logits(path)) > 0.1


def test_an_activation_that_leaves_the_probes_as_they_are_is_kept_too(tmp_path: Path) -> None:
    # Given a ReLU after logits that are all above 0 for the probes, and not for other pairs
    plain = tiny_models.bert(tmp_path / "plain")
    pairs = [(f"query {number}", f"document {number * 7}") for number in range(100)]
    lowest = float(logits(plain, PROBES).min())
    assert logits(plain, pairs).min() < lowest - 0.2

    def lift(model: BertForSequenceClassification) -> None:
        model.classifier.bias.data.fill_(0.1 - lowest)

    path = with_activation(tmp_path / "lifted", "ReLU", change=lift)
    assert logits(path, PROBES).min() > 0 > logits(path, pairs).min()
    # Then scores are those of predict all the same: none is below 0
    assert apart(chosen(open_encoder(path)).run(pairs).scores, predicted(path, pairs)) < TOLERANCE


def test_several_scores_a_pair_are_rows(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, num_labels=3)
    engine = chosen(open_encoder(path))
    scores = engine.run(PAIRS).scores
    assert engine.backend == "sentence-transformers"
    assert scores.shape == (len(PAIRS), 3)
    assert apart(scores, predicted(path)) < TOLERANCE


# Precision


def test_weights_are_packed_for_single_precision_on_a_cpu_only(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path)
    assert exact_linears(open_encoder(path)) == (PackedLinear, Linear)
    assert exact_linears(open_encoder(path, "bfloat16")) == (Linear,)


def test_half_precision_is_near_single_precision(bundled_logits: Any) -> None:
    engine = chosen(open_encoder("bundled", "bfloat16"))
    assert (engine.backend, engine.dtype) == ("rerankq", "bfloat16")
    scores = engine.run(PAIRS).scores
    assert scores.dtype == np.float32
    assert TOLERANCE < apart(scores, bundled_logits) < 0.2


def three_labels(folder: Path) -> str:
    return tiny_models.bert(folder, num_labels=3)


def swapped(folder: Path) -> str:
    backend = tiny_models.bert_tokenizer().backend_tokenizer
    tokenizer = tiny_models.in_pairs(backend, "[CLS] $B [SEP] $A:1 [SEP]:1")
    return tiny_models.bert(folder, tokenizer=tokenizer)


# On a GPU


def shifted(*given: Any, **_: Any) -> Tensor:
    """Compute something else than attention: every value is a little too large."""
    q, k, v, *where = given
    return varlen_layout.reference(q, k, v + 0.2, *where)


def missing() -> VarlenFunction:
    raise ImportError("No module named 'flash_attn'")


def refusing(*_: Any, **named: Any) -> Tensor:
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_function_for_attention_is_used_only_if_it_is_there_and_right(
    caplog: pytest.LogCaptureFixture, dtype: str
) -> None:
    encoder = open_encoder("bundled", dtype)
    functions: dict[str, MakeFunction] = {
        "one library": missing,
        "an old GPU": lambda: refusing,
        "a wrong version": lambda: shifted,
        "padded groups": padded,
    }
    with caplog.at_level(logging.INFO, "worker.engine.choice"):
        engine = fastest_exact(on_gpu(encoder, functions), PredictEngine(encoder, 1, 512))
    assert engine is not None
    assert engine.run(PAIRS[:1]).scores.dtype == np.float32
    assert "one library failed (No module named 'flash_attn')" in caplog.text
    assert "an old GPU failed (FlashAttention only supports" in caplog.text
    assert "Falling back to padded groups, which are slower: its scores differ" in caplog.text
    assert "with a wrong version (tolerance" in caplog.text


def test_without_a_function_that_is_right_predict_scores(
    bundled: CrossEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    functions: dict[str, MakeFunction] = {"a wrong version": lambda: shifted}
    assert fastest_exact(on_gpu(bundled, functions), PredictEngine(bundled, 1, 512)) is None
    assert "Scoring with CrossEncoder.predict instead of the fast path" in caplog.text


def test_no_other_function_is_tried_on_a_gpu_that_failed(bundled: CrossEncoder) -> None:
    def failing(*_: Any, **named: Any) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    functions: dict[str, MakeFunction] = {"first": lambda: failing, "second": padded}
    with pytest.raises(RuntimeError, match="illegal memory access"):
        fastest_exact(on_gpu(bundled, functions), PredictEngine(bundled, 1, 512))


def test_the_functions_of_this_torch_refuse_a_cpu(bundled: CrossEncoder) -> None:
    # Of those that a GPU may use, only the last computes without one.
    engine = fastest_exact(on_gpu(bundled, FUNCTIONS), PredictEngine(bundled, 1, 512))
    assert engine is not None
    assert apart(engine.run(PAIRS).scores, fast_engine(bundled).run(PAIRS).scores) < TOLERANCE
