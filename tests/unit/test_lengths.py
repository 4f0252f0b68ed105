"""A model reads as many tokens as it has positions for, and truncated pairs are counted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from contract.errors import ModelUnavailable
from tests.unit import odd_models, tiny_models
from worker.engine import Scorer, ScorerCache, load
from worker.engine.checkpoint import load_encoder
from worker.engine.scorer_cache import require_length

LONG = ("the cat", "sat " * 3_000)
SEP = "[SEP]"
SHORT = ("the cat", "sat on the mat")


def small(model: str, max_length: int | None = None) -> Scorer:
    return load(model, threads=1, max_batch_tokens=512, max_length=max_length)


def electra_without_a_limit(folder: Path) -> str:
    path = odd_models.electra(folder)
    tiny_models.edit_json(folder / "tokenizer_config.json", model_max_length=odd_models.NO_LIMIT)
    return path


def bert_that_claims_too_much(folder: Path) -> str:
    path = tiny_models.bert(folder, max_position_embeddings=128)
    tiny_models.edit_json(folder / "tokenizer_config.json", model_max_length=4_096)
    return path


def roberta_that_claims_too_much(folder: Path) -> str:
    path = tiny_models.roberta(folder)  # of 64 positions
    tiny_models.edit_json(folder / "tokenizer_config.json", model_max_length=4_096)
    return path


def modernbert_of_1024(folder: Path) -> str:
    return odd_models.modernbert(folder, positions=1_024, max_length=odd_models.NO_LIMIT)


@pytest.mark.parametrize(
    ("make", "tokens"),
    [
        pytest.param(odd_models.t5, 512, id="nothing states a limit"),
        pytest.param(odd_models.xlmr, 512, id="positions, less the padding's offset"),
        pytest.param(roberta_that_claims_too_much, 62, id="a tokenizer that claims too much"),
        pytest.param(bert_that_claims_too_much, 128, id="the same, on the fast path"),
        pytest.param(electra_without_a_limit, 512, id="positions alone"),
        pytest.param(odd_models.modernbert, 512, id="a tokenizer that says less than positions"),
        pytest.param(modernbert_of_1024, 1_024, id="rotary positions"),
    ],
)
def test_a_model_reads_what_its_positions_allow(
    tmp_path: Path, make: Callable[[Path], str], tokens: int
) -> None:
    scorer = small(make(tmp_path / "model"))
    assert scorer.max_length == tokens
    scored = scorer.score_pairs([LONG, SHORT])
    assert scored.truncated == [True, False]
    # And a pair that is longer still, cut alike, has the same score
    assert scorer.score([("the cat", "sat " * 4_000)])[0] == pytest.approx(
        scored.logits[0], abs=1e-4
    )


@pytest.mark.parametrize("make", [tiny_models.bert, odd_models.electra, odd_models.t5])
def test_fewer_tokens_are_read_on_demand(tmp_path: Path, make: Callable[..., str]) -> None:
    path = make(tmp_path / "model")
    scorer = small(path, max_length=16)
    assert scorer.max_length == 16
    counted = scorer.score_pairs([LONG])
    assert (counted.tokens, sum(counted.truncated)) == (16, 1)
    assert counted.logits != small(path).score([LONG])


def test_more_tokens_than_the_tokenizer_says_are_read_on_demand(tmp_path: Path) -> None:
    path = odd_models.modernbert(tmp_path / "model", positions=1_024, max_length=128)
    assert small(path).max_length == 128
    assert small(path, max_length=600).score_pairs([LONG]).tokens == 600


def test_a_model_with_fewer_positions_reads_what_it_can(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path / "model", max_position_embeddings=128)
    scorer = ScorerCache().get(path, "cpu", 1, 512, max_length=512)
    assert scorer.max_length == 128
    with pytest.raises(ModelUnavailable) as caught:
        require_length(scorer, 512)
    assert str(caught.value) == (
        f"RERANKQ_MAX_LENGTH is 512, but model {path!r} reads at most 128 tokens. Lower"
        " RERANKQ_MAX_LENGTH, or set CROSS_ENCODER_MODEL to another model"
    )


def test_models_of_two_lengths_are_two_scorers(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path / "model")
    scorers = ScorerCache()
    one, other = (scorers.get(path, "cpu", 1, 512, max_length=tokens) for tokens in (64, 32))
    assert (one.max_length, other.max_length) == (64, 32)


def test_a_limit_that_the_model_was_saved_with_is_heeded(tmp_path: Path) -> None:
    path = odd_models.electra(tmp_path / "model")
    save_settings(tmp_path / "model", processing_kwargs={"text": {"max_length": 40}})
    scorer = small(path)
    assert scorer.max_length == 40
    assert scorer.score_pairs([LONG]).tokens == 40


def test_a_model_that_cuts_nothing_is_refused(tmp_path: Path) -> None:
    path = odd_models.electra(tmp_path / "model")
    save_settings(tmp_path / "model", processing_kwargs={"text": {"truncation": False}})
    with pytest.raises(ModelUnavailable, match="is 512 tokens, but it truncates longer pairs to 5"):
        small(path)


# Prompts


def with_prompt(folder: Path, make: Callable[..., str]) -> str:
    """Return a model that puts 22 tokens before each query."""
    prompts = {"task": "find a word " * 7 + ": "}
    encoder = CrossEncoder(make(folder), prompts=prompts, default_prompt_name="task")
    encoder.save_pretrained(str(folder))
    return str(folder)


@pytest.mark.parametrize("make", [tiny_models.bert, odd_models.electra])
def test_a_default_prompt_is_counted(tmp_path: Path, make: Callable[..., str]) -> None:
    plain = small(make(tmp_path / "plain"), max_length=64)
    prompted = small(with_prompt(tmp_path / "prompted", make), max_length=64)
    pair = ("the man", "sat on the floor " * 12)  # 53 tokens
    before, after = plain.score_pairs([pair]), prompted.score_pairs([pair])
    assert (before.tokens, sum(before.truncated)) == (53, 0)
    assert (after.tokens, sum(after.truncated)) == (64, 1)
    assert prompted.score_pairs([SHORT]).tokens == plain.score_pairs([SHORT]).tokens + 22


def test_a_default_prompt_reaches_the_model(tmp_path: Path) -> None:
    path = with_prompt(tmp_path / "model", odd_models.electra)
    encoder = load_encoder(path, "cpu")
    expected = encoder.predict([SHORT], activation_fn=lambda logits: logits)
    assert np.allclose(small(path).score([SHORT]), expected, atol=1e-5)
    assert not np.allclose(
        expected, encoder.predict([SHORT], prompt="", activation_fn=lambda logits: logits)
    )


# Padding


def test_a_decoder_pads_with_its_end_token(tmp_path: Path) -> None:
    # Its classifier reads the last token that is not padding.
    scorer = small(odd_models.qwen3(tmp_path / "model"))
    alone = [scorer.score([pair])[0] for pair in (SHORT, ("a", "b c"))]
    assert np.allclose(scorer.score([SHORT, ("a", "b c")]), alone, atol=1e-5)
    assert scorer.score_pairs([SHORT, ("a", "b c"), ("a", "")]).logits[:2] != [0.0, 0.0]


def test_a_decoder_whose_texts_end_with_the_padding_scores_pairs_one_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a tokenizer that ends each pair with the token that it would pad with
    tokenizer = odd_models.tokenizer_without(pad_token=None, eos_token=SEP)
    path = odd_models.qwen3(tmp_path / "model", tokenizer)
    # When its model is loaded
    with caplog.at_level(logging.WARNING, "worker.engine.predict_engine"):
        scorer = small(path)
    # Then its batches are found out
    assert "Scoring one pair at a time, which is slower" in caplog.text
    # And a pair's score is that of its last token, whatever it is scored with
    assert scorer.score([SHORT, LONG, ("a", "b c")])[0] == scorer.score([SHORT])[0]


def test_a_text_that_spells_out_an_end_token_is_scored(tmp_path: Path) -> None:
    # T5 scores a batch only if all its pairs have the same number of end tokens.
    scorer = small(odd_models.t5(tmp_path / "model"))
    pairs = [SHORT, ("the cat", "sat </s> on the mat"), ("the dog", "sat")]
    assert np.allclose(scorer.score(pairs), [scorer.score([pair])[0] for pair in pairs], atol=1e-4)


def save_settings(folder: Path, **settings: object) -> None:
    """Write the file that sentence-transformers saves with a model."""
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    listed = [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.base.modules.transformer.Transformer",
        }
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    stated = {"model_type": "CrossEncoder"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    tiny_models.edit_json(
        folder / "sentence_bert_config.json", transformer_task="sequence-classification"
    )
