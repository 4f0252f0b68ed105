"""A model is warmed up with its longest pairs, unless that takes too long."""

from __future__ import annotations

import logging

import pytest

from worker.engine import EngineObserver, load, warmup
from worker.runtime.load_progress import LoadProgress


class Model:
    """An engine whose time grows with the square of a pair's length, and which is its own clock."""

    def __init__(self, seconds_at_128: float, max_length: int) -> None:
        self.seconds_at_128 = seconds_at_128
        self.max_length = max_length
        self.now = 0.0
        self.lengths: list[int] = []

    def score(self, length: int) -> None:
        self.now += self.seconds_at_128 * (length / 128) ** 2
        self.lengths.append(length)

    def warm_up(self, limit_s: float = 30.0) -> int:
        return warmup.score_growing_lengths(
            "mine", self.max_length, self.score, limit_s, lambda: self.now
        )


def test_a_model_that_reads_few_tokens_is_warmed_up_to_the_longest_at_once() -> None:
    model = Model(0.1, 512)
    assert model.warm_up() == 512
    assert model.lengths == [128, 512]


def test_a_model_that_reads_fewer_tokens_than_the_first_pass_has_is_given_no_more() -> None:
    model = Model(0.1, 62)
    assert model.warm_up() == 62
    assert model.lengths == [62]


@pytest.mark.parametrize("seconds", [0.05, 0.5, 5.0, 29.0, 500.0])
def test_a_long_pair_is_left_out_if_it_would_take_too_long(
    caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    model = Model(seconds, 32_768)
    with caplog.at_level(logging.WARNING, "worker.engine.warmup"):
        reached = model.warm_up()
    # The first pass always runs; none after it exceeds the limit.
    assert model.now <= max(30.0, seconds)
    assert reached == model.lengths[-1] < 32_768
    longest_s = seconds * (32_768 / 128) ** 2
    assert f"at pairs of {reached:,} tokens. The longest pairs, of 32,768 tokens" in caplog.text
    assert f"about {longest_s:,.0f} s each" in caplog.text
    assert "RERANKQ_MAX_LENGTH" in caplog.text


class Stages(EngineObserver):
    """Records the calls."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def loading(self, stage: str) -> None:
        self.told.append(stage)


def test_what_is_being_done_is_told_while_it_is_done() -> None:
    stages = Stages()
    load("bundled", threads=1, max_batch_tokens=512, observer=stages)
    assert stages.told == [
        "loading model 'bundled'",
        "preparing model 'bundled'",
        "warming up model 'bundled' with pairs of 128 tokens (maximum 512)",
        "warming up model 'bundled' with pairs of 512 tokens (maximum 512)",
    ]


@pytest.mark.parametrize("text", ["loading model 'x'", "", "é" * 1_000])
def test_a_stage_is_what_was_said_last(text: str) -> None:
    progress = LoadProgress()
    progress.write("something longer than what follows, which must not show at its end")
    progress.write(text)
    assert progress.read() == text[: len(progress.read())]
    assert len(progress.read()) == min(len(text), len(progress.read().encode()), 255)
