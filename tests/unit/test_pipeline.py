"""The pipeline's step keeps the best results, or the first ones if reranking is disabled."""

from __future__ import annotations

import asyncio
import copy

import pytest
from pydantic import ValidationError

from contract.errors import InvalidInput, ModelUnavailable
from contract.models import DEFAULT_MODEL
from worker.inprocess import (
    CrossEncoderReranker,
    DocumentChunkWithScore,
    PipelineSettings,
    QueryResult,
    rerank_step,
)

QUERY = "combine several pdf documents into a single file"
BEST = "This tool merges several PDF documents into a single file."
OTHERS = (
    "A mail transfer agent delivers messages to local users.",
    "a viewer for PDF documents",
    "an editor of sound files",
)


def results(*texts: str) -> list[QueryResult]:
    return [QueryResult(chunk=DocumentChunkWithScore(text=text), score=0.5) for text in texts]


def step(
    given: list[QueryResult], settings: PipelineSettings, query: str = QUERY
) -> list[QueryResult]:
    return asyncio.run(rerank_step(query, given, settings))


# Settings


def test_the_defaults_over_fetch_and_keep_ten() -> None:
    settings = PipelineSettings()
    assert settings.reranker_enabled is True
    assert settings.reranker_model == DEFAULT_MODEL
    assert settings.reranker_top_k == 10
    assert settings.vector_top_k == 100


def test_each_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKER_ENABLED", "false")
    monkeypatch.setenv("RERANKER_MODEL", "bundled")
    monkeypatch.setenv("RERANKER_TOP_K", "3")
    monkeypatch.setenv("VECTOR_TOP_K", "40")
    assert PipelineSettings().model_dump() == {
        "reranker_enabled": False,
        "reranker_model": "bundled",
        "reranker_top_k": 3,
        "vector_top_k": 40,
    }


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKER_TOP_K", "3")
    assert PipelineSettings(reranker_top_k=4).reranker_top_k == 4


@pytest.mark.parametrize(
    ("environment", "model"),
    [
        ({"CROSS_ENCODER_MODEL": "bundled"}, "bundled"),
        ({"CROSS_ENCODER_MODEL": ""}, DEFAULT_MODEL),
        ({"CROSS_ENCODER_MODEL": "bundled", "RERANKER_MODEL": "somebody/else"}, "somebody/else"),
    ],
)
def test_the_model_is_the_pipelines_then_the_process_wide_one_then_the_default(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], model: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert PipelineSettings().reranker_model == model


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RERANKER_ENABLED", "perhaps"),
        ("RERANKER_TOP_K", "-1"),
        ("RERANKER_TOP_K", "ten"),
        ("VECTOR_TOP_K", "0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        PipelineSettings()


def test_settings_do_not_change() -> None:
    settings = PipelineSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.reranker_top_k = 5  # type: ignore[misc]


# The step


def test_the_step_keeps_the_best() -> None:
    settings = PipelineSettings(reranker_model="bundled", reranker_top_k=2)
    kept = step(results(*OTHERS, BEST), settings)
    assert [each.chunk.text for each in kept] == [BEST, "a viewer for PDF documents"]


def test_the_step_gives_what_the_reranker_gives() -> None:
    settings = PipelineSettings(reranker_model="bundled", reranker_top_k=3)
    given = results(*OTHERS, BEST)
    assert step(given, settings) == CrossEncoderReranker("bundled").rerank(QUERY, given, top_k=3)


def test_the_step_leaves_its_input_as_it_was() -> None:
    given = results(*OTHERS, BEST)
    before = copy.deepcopy(given)
    step(given, PipelineSettings(reranker_model="bundled", reranker_top_k=2))
    assert given == before


@pytest.mark.parametrize(("top_k", "kept"), [(0, 0), (1, 1), (4, 4), (10, 4)])
def test_switched_off_the_first_results_come_back_as_they_came(top_k: int, kept: int) -> None:
    given = results(*OTHERS, BEST)
    settings = PipelineSettings(reranker_enabled=False, reranker_top_k=top_k)
    assert step(given, settings) == given[:kept]
    assert len(given) == 4


def test_switched_off_the_callers_list_is_not_handed_back() -> None:
    given = results(*OTHERS)
    kept = step(given, PipelineSettings(reranker_enabled=False))
    kept.clear()
    assert len(given) == 3


def test_switched_off_no_model_is_needed() -> None:
    settings = PipelineSettings(reranker_enabled=False, reranker_model="/nowhere/at-all")
    assert step(results(BEST), settings) == results(BEST)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_results_give_no_results(enabled: bool) -> None:
    settings = PipelineSettings(reranker_enabled=enabled, reranker_model="bundled")
    assert step([], settings) == []


def test_keeping_none_gives_no_results() -> None:
    settings = PipelineSettings(reranker_model="bundled", reranker_top_k=0)
    assert step(results(BEST), settings) == []


def test_a_blank_query_is_refused() -> None:
    with pytest.raises(InvalidInput, match="query must not be blank"):
        step(results(BEST), PipelineSettings(reranker_model="bundled"), query=" ")


def test_a_failure_is_the_callers_to_handle() -> None:
    given = results(*OTHERS, BEST)
    with pytest.raises(ModelUnavailable, match="/nowhere/at-all"):
        step(given, PipelineSettings(reranker_model="/nowhere/at-all"))
    assert given == results(*OTHERS, BEST)
