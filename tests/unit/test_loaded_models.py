"""A worker loads each model with the maximum length and the prompt that are set for it."""

from __future__ import annotations

import pytest

from contract.errors import ModelUnavailable
from worker.engine.observer import EngineObserver
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
