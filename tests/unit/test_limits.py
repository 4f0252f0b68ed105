"""Each limit allows a value equal to it, and refuses the next larger one."""

from __future__ import annotations

from typing import Any

import pytest

from contract import jobs, limits
from contract.errors import LimitExceeded, ModelNotAllowed
from contract.settings import Settings


def load(**overrides: Any) -> Settings:
    settings: Settings = Settings.load(**overrides)
    return settings


def job(*, query: str = "q", texts: tuple[str, ...] = ("d",), **changes: Any) -> jobs.Job:
    candidates = [{"id": str(place), "text": text} for place, text in enumerate(texts)]
    requests = [{"query": query, "candidates": candidates}]
    return jobs.parse(jobs.Job, {"id": "j1", "requests": requests, **changes})


def test_pairs_up_to_the_limit_are_allowed_and_one_more_is_not() -> None:
    settings = load(max_pairs_per_job=3)
    limits.check(job(texts=("a", "b", "c")), settings)
    with pytest.raises(LimitExceeded, match=r"j1 has 4 pairs, .* 3 .*RERANKQ_MAX_PAIRS_PER_JOB"):
        limits.check(job(texts=("a", "b", "c", "d")), settings)


def test_text_up_to_the_limit_is_allowed_and_one_more_character_is_not() -> None:
    settings = load(max_text_chars=4)
    limits.check(job(query="語" * 4, texts=("😀" * 4, "")), settings)
    with pytest.raises(LimitExceeded, match=r"the query has 5 .*RERANKQ_MAX_TEXT_CHARS"):
        limits.check(job(query="x" * 5), settings)
    with pytest.raises(LimitExceeded, match="document '1' has 5 characters"):
        limits.check(job(texts=("ok", "x" * 5)), settings)


@pytest.mark.parametrize("model", [None, "mine", "a", "b"])
def test_the_default_model_and_the_listed_ones_are_allowed(model: str | None) -> None:
    limits.check(job(model=model), load(cross_encoder_model="mine", allowed_models="a, b"))


def test_any_other_model_is_refused_with_those_that_are_allowed() -> None:
    settings = load(cross_encoder_model="mine", allowed_models="a,mine")
    with pytest.raises(
        ModelNotAllowed, match=r"'c' is not allowed .allowed: mine, a.; to allow it, "
    ):
        limits.check(job(model="c"), settings)


@pytest.mark.parametrize(
    ("default", "model", "allowed"),
    [
        pytest.param("mine", "mine@int4", False, id="an unknown precision"),
        pytest.param("mine@v1", "mine@v1", True, id="the default, which is pinned"),
        pytest.param("mine", "pinned@v1", True, id="a listed revision"),
        pytest.param("mine@v1", "mine", False, id="the pinned default without its revision"),
        pytest.param("mine", "mine@v1", False, id="a revision of the default"),
        pytest.param("mine", "listed@v1", False, id="a revision of a listed one"),
        pytest.param("mine", "pinned@v2", False, id="another revision than the listed one"),
        pytest.param("mine", "pinned", False, id="a model of which a revision is listed"),
    ],
)
def test_a_model_is_allowed_by_its_whole_name(default: str, model: str, allowed: bool) -> None:
    settings = load(cross_encoder_model=default, allowed_models="listed,pinned@v1")
    assert settings.allows(model) is allowed


def test_8_bit_weights_are_refused_with_the_way_out() -> None:
    settings = load(cross_encoder_model="mine")
    with pytest.raises(ModelNotAllowed, match=r"no longer has 8-bit weights. Remove @int8 from"):
        limits.check(job(model="mine@int8"), settings)
