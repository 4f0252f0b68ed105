"""A worker loads each model with the settings for it, and keeps a bounded number of models."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import pytest

from contract.errors import ModelUnavailable
from tests.unit import tiny_models
from worker.engine import load
from worker.engine.observer import EngineObserver
from worker.engine.protocol import do_nothing
from worker.runtime.loaded_scorings import LoadedScorings
from worker.runtime.models import LoadedModels
from worker.runtime.settings import WorkerSettings


def models(**given: object) -> LoadedModels:
    settings = WorkerSettings.load(
        cross_encoder_model="stub", allowed_models="stub:scale=2", **given
    )
    return LoadedModels(settings, 1, 0, EngineObserver())


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ({}, (512, 512)),
        ({"max_length": 100}, (100, 100)),
        ({"model_max_lengths": {"stub:scale=2": 64}}, (512, 64)),
        ({"max_length": 100, "model_max_lengths": {"stub:scale=2": 64}}, (100, 64)),
        ({"max_length": 64, "model_max_lengths": {"stub": 512}}, (512, 64)),
        # The general number is too large for both, but each has its own
        ({"max_length": 9_999, "model_max_lengths": {"stub": 64, "stub:scale=2": 65}}, (64, 65)),
    ],
)
def test_a_models_own_length_takes_precedence(
    given: dict[str, object], lengths: tuple[int, int]
) -> None:
    loaded = models(**given)
    assert tuple(loaded.scorer(name).max_length for name in ("stub", "stub:scale=2")) == lengths


def test_a_models_own_length_must_be_allowed_by_the_model() -> None:
    loaded = models(model_max_lengths={"stub:scale=2": 513})
    with pytest.raises(
        ModelUnavailable,
        match=r"^RERANKQ_MODEL_MAX_LENGTHS is 513, but model 'stub:scale=2' reads at most 512 toke",
    ):
        loaded.scorer("stub:scale=2")
    # The other model is not affected
    assert loaded.scorer("stub").max_length == 512


def test_a_prompt_is_read_by_the_default_model_only() -> None:
    loaded = models(prompt="find code")
    with pytest.raises(ModelUnavailable, match=r"'stub' cannot be used: it takes no prompt"):
        loaded.scorer("stub")
    assert loaded.scorer("stub:scale=2").prompt is None


def test_the_general_length_must_be_allowed_by_the_default_model_only() -> None:
    loaded = models(max_length=513)
    with pytest.raises(ModelUnavailable, match=r"^RERANKQ_MAX_LENGTH is 513, but model 'stub'"):
        loaded.scorer("stub")
    assert loaded.scorer("stub:scale=2").max_length == 512


def tiny(folder: Path, number: int) -> list[str]:
    """Write models that score differently."""
    return [
        tiny_models.bert(folder / str(each), hidden_size=32 + 16 * each) for each in range(number)
    ]


def test_jobs_of_many_models_leave_few_in_memory_and_have_the_same_scores(tmp_path: Path) -> None:
    names, pairs = tiny(tmp_path, 5), [("a cat", "the cat sat"), ("a cat", "a dog")]
    given = {"cross_encoder_model": names[0], "downgrade_model": "none", "max_batch_tokens": 512}
    settings = WorkerSettings.load(allowed_models=",".join(names), **given)
    found = LoadedScorings()
    loaded = LoadedModels(settings, 1, 0, EngineObserver(), found)
    loaded.load_all()

    engines, scores = [], {}
    for name in names:
        with loaded.keeping(name, do_nothing):
            scorer = loaded.scorer(name)
            engines.append(weakref.ref(scorer.engine))
            scores[name] = scorer.score(pairs)
        del scorer
        assert len(found.of([os.getpid()])) <= 3

    # The default model stays, and so do the two that were used last
    remaining = [engine() is not None for engine in engines]
    assert remaining == [True, False, False, True, True]
    assert set(found.of([os.getpid()])) == {names[0], *names[3:]}
    assert scores == {name: load(name, "cpu", 1, 512).score(pairs) for name in names}
    with loaded.keeping(names[1], do_nothing):
        assert loaded.scorer(names[1]).score(pairs) == scores[names[1]]


def test_the_downgrade_model_and_the_default_model_are_never_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    others = [f"stub:scale={number}" for number in range(2, 6)]
    settings = WorkerSettings.load(
        cross_encoder_model="stub",
        downgrade_model="stub:instant=1",
        allowed_models=",".join(others),
    )
    loaded = LoadedModels(settings, 1, 0, EngineObserver())
    loaded.load_all()
    kept = [loaded.scorer(name) for name in settings.models]
    with caplog.at_level("INFO"):
        for name in (*others, *settings.models, others[0]):
            with loaded.keeping(name, do_nothing):
                loaded.scorer(name)
    assert [loaded.scorer(name) for name in settings.models] == kept
    assert (
        "Dropping stub:scale=2, which jobs have used least recently, to load stub:scale=3"
        " (RERANKQ_MAX_MODELS=3)"
    ) in caplog.text
