"""The stub scores without torch: the same bits everywhere, with configurable speed and memory."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from contract.errors import ModelUnavailable, OutOfMemory, TimeLimitExceeded
from tests.processes import limited_memory, linux_only
from worker.engine import BatchStatistics, EngineObserver, Pair, Scorer, load
from worker.engine.stub import StubEngine

QUERY = "edit mp3 tags"
PAIRS: list[Pair] = [
    (QUERY, "a chess game"),
    (QUERY, "an editor for the tags of MP3 files"),
    (QUERY, "Edit the tags, of mp3 files."),
    (QUERY, ""),
    (QUERY, "a mail client"),
]


def test_documents_that_have_more_of_the_querys_words_score_higher() -> None:
    chess, editor, best, empty, mail = load("stub").score(PAIRS)
    assert best > editor > max(chess, empty, mail)
    assert best > 0 > max(chess, empty, mail)
    assert len({chess, empty, mail}) == 3


def test_scores_are_these_bits_on_every_machine() -> None:
    scores = load("stub").score(PAIRS[:3])
    assert [score.hex() for score in scores] == [
        "-0x1.777f620000000p+2",
        "0x1.96038c0000000p+0",
        "0x1.74b65c0000000p+2",
    ]


def test_a_score_does_not_depend_on_what_it_is_scored_with() -> None:
    pairs = [(QUERY, f"tags {number} " * (number % 23)) for number in range(90)]
    together = load("stub").score(pairs)
    assert [load("stub").score([pair])[0] for pair in pairs] == together
    assert load("stub", max_batch_tokens=16).score(pairs[::-1])[::-1] == together
    assert all(score == float(np.float32(score)) for score in together)


def test_it_says_what_it_is() -> None:
    scorer = load("stub:scale=2")
    assert (scorer.model, scorer.backend, scorer.device) == ("stub:scale=2", "stub", "cpu")
    assert (scorer.dtype, scorer.max_length, scorer.labels) == ("float32", 512, 1)


def test_words_and_three_more_are_its_tokens_and_what_is_too_long_is_truncated() -> None:
    scored = load("stub", max_length=16).score_pairs([("a b", "c d e"), ("a b", "c " * 20)])
    assert scored.tokens == 8 + 16
    assert scored.truncated == [False, True]
    # The part that is not read does not count.
    one, other = load("stub", max_length=16).score([("a b", "c " * 20), ("a b", "c " * 20 + "a")])
    assert one == other


def test_it_reads_no_more_than_512_tokens() -> None:
    assert load("stub", max_length=1_000).max_length == 512


def test_two_of_another_scale_give_different_scores_and_the_same_order() -> None:
    one, other = load("stub").score(PAIRS), load("stub:scale=0.5").score(PAIRS)
    assert all(each != less for each, less in zip(one, other, strict=True))
    assert np.argsort(one).tolist() == np.argsort(other).tolist()


def test_batches_keep_to_the_budget_and_something_may_be_done_before_each() -> None:
    class Statistics(EngineObserver):
        told: list[BatchStatistics]

        def scored(self, model: str, statistics: BatchStatistics) -> None:
            self.told = [statistics]

    observer, began = Statistics(), []
    scorer = load("stub", max_batch_tokens=64, observer=observer)
    scored = scorer.score_pairs(
        [(QUERY, f"{number} " * 10) for number in range(30)], lambda: began.append(True)
    )
    (statistics,) = observer.told
    assert len(statistics.batch_tokens) == len(began) == 8
    assert max(statistics.batch_tokens) == 64
    assert sum(statistics.batch_tokens) == statistics.pair_tokens == scored.tokens == 480
    assert statistics.padding_tokens == 0


# Speed


def test_a_slow_one_takes_its_time() -> None:
    began = time.monotonic()
    load("stub:pairs_per_s=50").score([(QUERY, str(number)) for number in range(10)])
    assert time.monotonic() - began >= 0.2


def test_a_slow_one_heeds_what_is_raised_before_a_batch_also_amid_one() -> None:
    scorer, began = load("stub:pairs_per_s=0.01"), time.monotonic()

    def before_batch() -> None:
        if time.monotonic() > began + 0.2:
            raise TimeLimitExceeded("too slow")

    with pytest.raises(TimeLimitExceeded):
        scorer.score_pairs(PAIRS, before_batch)
    assert time.monotonic() - began < 10


# Memory


@linux_only
def test_a_hungry_one_scores_smaller_batches_where_memory_is_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given 32 pairs of 16 tokens that take 512 MiB together
    pairs = [(QUERY, f"{number} " * 10) for number in range(32)]
    scorer = load("stub:bytes_per_token=1048576", max_batch_tokens=512)
    expected = load("stub").score(pairs)
    # When there is a third of that
    with limited_memory([os.getpid()], 170 * 2**20):
        scored = scorer.score(pairs)
    # Then batches are halved until they fit, and scores are what they were
    assert scored == expected
    assert "Out of memory with 32 of 32 pairs left" in caplog.text
    assert scorer.engine.budget.tokens < scorer.engine.budget.full


@linux_only
def test_a_pair_that_is_too_hungry_alone_is_a_failure_that_may_pass() -> None:
    scorer = load("stub:bytes_per_token=8388608")
    with (
        limited_memory([os.getpid()], 32 * 2**20),
        pytest.raises(OutOfMemory, match=r"^Reranking failed for model stub:bytes_per_token"),
    ):
        scorer.score(PAIRS[:1])
    with limited_memory([os.getpid()], 400 * 2**20):
        assert len(scorer.score(PAIRS[:1])) == 1


# Names


def test_an_instant_stub_scores_by_a_hash_of_both_texts_in_one_batch() -> None:
    statistics: list[BatchStatistics] = []

    class Observer(EngineObserver):
        def scored(self, model: str, made: BatchStatistics) -> None:
            statistics.append(made)

    scored = load("stub:instant=1", observer=Observer()).score_pairs([*PAIRS, PAIRS[0], ("", "")])
    assert scored.logits[0] == scored.logits[-2]
    assert len(set(scored.logits)) == scored.unique_pairs == scored.tokens == len(PAIRS) + 1
    assert scored.logits[0].hex() == "0x1.fd99aa0000000p-3"
    assert [made.batch_tokens for made in statistics] == [[len(PAIRS) + 1]]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("stub:pairs_per_s=0", "pairs_per_s=0"),
        ("stub:pairs_per_s=-1", "pairs_per_s=-1"),
        ("stub:scale=inf", "scale=inf"),
        ("stub:scale=nan", "scale=nan"),
        ("stub:scale", "scale"),
        ("stub:scale=2,speed=3", "speed=3"),
        ("stub:scale=2@int8", "scale=2@int8"),
    ],
)
def test_a_wrong_option_is_named_with_those_that_there_are(name: str, option: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        load(name)
    assert str(caught.value) == (
        f"model {name!r} cannot be used: {option!r} is not a valid option of 'stub'. Valid"
        " options are scale, pairs_per_s, bytes_per_token, load_s, instant, poison_after, each"
        " followed by = and a number greater than 0"
    )


@pytest.mark.parametrize("separator", [",", ";"])
def test_options_stand_one_behind_another(separator: str) -> None:
    scorer = load(f"stub:scale=2{separator}pairs_per_s=1000")
    assert isinstance(scorer.engine, StubEngine)
    assert (scorer.engine.options.scale, scorer.engine.options.pairs_per_s) == (2, 1000)


def test_any_engine_can_be_given_to_a_scorer() -> None:
    assert Scorer(StubEngine(), "mine").score(PAIRS) == load("stub").score(PAIRS)
