"""The clearly faster setting is chosen, and settings that would take too long are not tried.

The candidates differ so much that noise does not matter: a call counts as one token or a trillion.
"""

from __future__ import annotations

import math
import time
from typing import cast

import pytest

from worker.engine.tuning import ENOUGH_S, TURNS, fastest, fastest_in_turns

SLOW, FAST = 1, 10**12


@pytest.mark.parametrize(
    ("tokens", "best"),
    [
        pytest.param({1: FAST}, 1, id="there is no choice"),
        pytest.param({1: SLOW, 2: FAST}, 2, id="the second is faster"),
        pytest.param({1: FAST, 2: SLOW}, 1, id="the first is faster"),
        pytest.param({1: SLOW, 2: FAST, 3: 10**6}, 2, id="the one in the middle"),
        pytest.param({1: SLOW, 2: 10**6, 3: FAST}, 3, id="each faster than the last"),
    ],
)
def test_the_one_that_takes_least_time_for_a_token_is_chosen(
    tokens: dict[int, int], best: int
) -> None:
    assert fastest(list(tokens), tokens.__getitem__) == best


def test_of_equally_fast_ones_the_first_is_chosen() -> None:
    # No time at all for a token, whatever the clock shows.
    assert fastest([3, 1, 2], lambda _: cast("int", math.inf)) == 3


def test_no_more_is_tried_where_the_next_would_take_too_long() -> None:
    # Given that a token takes some nanoseconds
    tried: set[int] = set()

    def score(candidate: int) -> int:
        tried.add(candidate)
        return SLOW

    # When others would score a trillion of them: hours
    best = fastest([1, FAST, 2 * FAST], score)
    # Then they are left alone
    assert best == 1
    assert tried == {1}


def test_a_smaller_one_is_tried_after_one_that_would_take_too_long() -> None:
    tried: set[int] = set()

    def score(candidate: int) -> int:
        tried.add(candidate)
        return FAST if candidate == 2 else SLOW

    assert fastest([1, FAST, 2], score) == 2
    assert tried == {1, 2}


def test_a_slow_first_run_does_not_count_if_more_runs_are_required() -> None:
    # Given that the first run of 1 takes longer than measuring should, as on a GPU
    runs: list[int] = []

    def score(candidate: int) -> int:
        runs.append(candidate)
        if runs == [1]:
            time.sleep(ENOUGH_S)
            return SLOW
        return FAST if candidate == 1 else 10**6

    assert fastest([1, 2], score) == 2
    runs.clear()
    assert fastest([1, 2], score, least_runs=2) == 1


def test_what_fails_while_being_measured_is_not_hidden() -> None:
    def score(_: int) -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        fastest([1, 2], score)


# Candidates in turns


def test_in_turns_the_one_that_takes_least_time_for_a_token_is_chosen() -> None:
    tokens = {1: SLOW, 2: FAST, 3: 10**6}
    turns: list[int] = []

    def score(candidate: int) -> int:
        turns.append(candidate)
        return tokens[candidate]

    assert fastest_in_turns(dict.fromkeys(tokens, 0.0), score, limit_s=60) == 2
    assert turns == [1, 2, 3] * TURNS


def test_in_turns_the_first_of_equally_fast_ones_is_chosen() -> None:
    assert fastest_in_turns({3: 0.0, 1: 0.0}, lambda _: cast("int", math.inf), limit_s=60) == 3


def test_in_turns_no_more_is_measured_than_the_limit_allows() -> None:
    tried: list[int] = []

    def score(candidate: int) -> int:
        tried.append(candidate)
        return FAST if candidate == 2 else SLOW

    # The third is expected to take too long
    assert fastest_in_turns({1: 0.0, 2: 0.0, 3: 60.0}, score, limit_s=1) == 2
    assert 3 not in tried
    # One turn is too long already
    tried.clear()
    assert fastest_in_turns({1: 0.0, 2: 0.0}, score, limit_s=0) == 2
    assert tried == [1, 2]


@pytest.mark.parametrize("expected_s", [{1: 60.0, 2: 0.0}, {1: 0.0}])
def test_in_turns_nothing_is_measured_where_the_first_takes_too_long_or_is_alone(
    expected_s: dict[int, float],
) -> None:
    def score(_: int) -> int:
        raise AssertionError

    assert fastest_in_turns(expected_s, score, limit_s=1) == 1


def test_in_turns_the_first_shows_how_long_the_others_take() -> None:
    # Given that each is expected to take too long, but takes no time
    tokens = {1: SLOW, 2: FAST}
    assert fastest_in_turns({1: 60.0, 2: 120.0}, tokens.__getitem__, limit_s=60) == 2
