"""Causal rerankers read pairs in their chat template, and a prompt where a model takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from contract.errors import ModelUnavailable
from tests.unit import odd_models, tiny_models
from tests.unit.predict_scores import apart
from worker.engine import BatchStatistics, Scorer, ScorerCache, load
from worker.engine.checkpoint import load_encoder
from worker.engine.prompts import default_prompt, token_ids

PROMPT = "find a program that does this"
LONG = ("the cat", "sat on the floor " * 100)
PAIRS = [("the cat", "sat"), LONG, ("open a file", "a tool to open files " * 4), ("a", "")]
KINDS = {"yes or no": odd_models.generative_reranker, "classifier": odd_models.classifying_reranker}


@pytest.fixture(scope="module", params=KINDS)
def reranker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return KINDS[request.param](tmp_path_factory.mktemp("model"))


def small(path: str, prompt: str | None = None) -> Scorer:
    return load(path, threads=2, max_batch_tokens=400, prompt=prompt)


def expected(path: str, prompt: str | None = None) -> np.ndarray:
    """Return the scores of each pair alone, without any of our settings."""
    encoder = CrossEncoder(path, device="cpu")
    scores: np.ndarray = encoder.predict(
        PAIRS, batch_size=1, prompt=prompt, activation_fn=torch.nn.Identity()
    )
    return scores


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_a_causal_reranker_is_scored_by_its_template_in_batches(
    reranker: str, prompt: str | None
) -> None:
    scorer = small(reranker, prompt)
    scored = scorer.score_pairs(PAIRS)
    assert scorer.backend == "sentence-transformers"
    assert scorer.prompt == prompt
    assert apart(scored.logits, expected(reranker, prompt)) < 1e-4
    # A batch of several pairs is padded, and scores do not depend on it
    statistics = BatchStatistics()
    scorer.engine.run(PAIRS, statistics=statistics)
    assert len(statistics.batch_tokens) < len(PAIRS)
    assert apart(scored.logits, [scorer.score([pair])[0] for pair in PAIRS]) < 1e-4


def test_another_prompt_gives_other_scores_and_longer_pairs(reranker: str) -> None:
    scorers = ScorerCache()
    plain, prompted = (
        scorers.get(reranker, "cpu", 1, 400, prompt=prompt) for prompt in (None, PROMPT)
    )
    one, other = plain.score_pairs(PAIRS[:1]), prompted.score_pairs(PAIRS[:1])
    added = "system : . find a program that does this"
    assert other.tokens == one.tokens + len(added.split(" "))
    assert apart(one.logits, other.logits) > 1e-3


def test_a_long_pair_keeps_the_end_of_the_template(reranker: str) -> None:
    encoder = load_encoder(reranker, "cpu", prompt=PROMPT)
    cut, whole = token_ids(encoder, [LONG, PAIRS[0]], default_prompt(encoder))
    assert len(cut) == encoder.tokenizer.model_max_length == 256
    ending = encoder.tokenizer("[SEP] is it yes or no ? :", add_special_tokens=False)["input_ids"]
    assert cut[-len(ending) :] == whole[-len(ending) :] == ending
    scored = small(reranker, PROMPT).score_pairs(PAIRS)
    assert scored.truncated == [False, True, False, False]


def test_a_model_that_would_lose_the_end_of_its_template_is_refused(tmp_path: Path) -> None:
    path = odd_models.generative_reranker(tmp_path / "model", restore_suffix=False)
    with pytest.raises(
        ModelUnavailable, match="truncates long pairs with the end of its chat temp"
    ):
        small(path)


def test_a_prompt_that_leaves_no_room_for_a_pair_is_refused(reranker: str) -> None:
    with pytest.raises(ModelUnavailable, match="is 256 tokens, but the shortest pair has 3"):
        small(reranker, "word " * 300)


@pytest.mark.parametrize("template", [odd_models.OF_A_CHAT, "always the same"])
def test_a_template_without_room_for_a_pair_is_refused(tmp_path: Path, template: str) -> None:
    path = odd_models.generative_reranker(tmp_path / "model", template)
    with pytest.raises(
        ModelUnavailable, match=r"no room for a query and a document\. Add a chat_t"
    ):
        small(path)


def refuses_prompts(folder: Path) -> str:
    return odd_models.generative_reranker(folder, odd_models.WITHOUT_PROMPT)


@pytest.mark.parametrize("make", [tiny_models.bert, odd_models.electra, refuses_prompts])
def test_a_model_that_takes_no_prompt_refuses_one(tmp_path: Path, make: Callable[..., str]) -> None:
    path = make(tmp_path / "model")
    with pytest.raises(ModelUnavailable, match=r"it takes no prompt: .* Unset RERANKQ_PROMPT"):
        small(path, PROMPT)
    assert small(path).prompt is None


def test_the_stub_takes_no_prompt() -> None:
    with pytest.raises(ModelUnavailable, match="'stub' cannot be used: it takes no prompt"):
        load("stub", prompt=PROMPT)


def test_a_model_with_a_prompt_of_its_own_takes_another(tmp_path: Path) -> None:
    path = odd_models.electra(tmp_path / "model")
    encoder = CrossEncoder(path, prompts={"web": "the cat: ", "other": "dog"}, device="cpu")
    encoder.save_pretrained(path)
    assert apart(small(path, "dog").score(PAIRS), expected(path, "dog")) < 1e-4
