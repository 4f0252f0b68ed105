"""Measure which settings are fastest for this machine and model, in a limited time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence

#: Time limit for one choice, in seconds. Slow models measure fewer candidates.
LIMIT_S = 0.4
#: Minimum time to measure a candidate, in seconds, unless a single run takes longer.
ENOUGH_S = 0.03
#: A candidate must be faster than an earlier one by this factor, because of noise.
CLEARLY = 1.03
#: Maximum number of times that each candidate is measured in turn.
TURNS = 5


def fastest(candidates: Sequence[int], score: Callable[[int], int], least_runs: int = 1) -> int:
    """Return the candidate with which `score` takes the least time per token.

    `score` returns a number of tokens. The first candidate is the default. A candidate that is
    expected to need more than the remaining time is not measured. Others run `least_runs` times.
    """
    end = time.perf_counter() + LIMIT_S
    best, least = candidates[0], math.inf
    for candidate in candidates:
        now = time.perf_counter()
        if now >= end or (least < math.inf and now + least * candidate > end):
            continue
        seconds = seconds_per_token(candidate, score, least_runs)
        if seconds * CLEARLY < least:
            best, least = candidate, seconds
    return best


def seconds_per_token(candidate: int, score: Callable[[int], int], least_runs: int = 1) -> float:
    """Return the time per token of the fastest of several runs."""
    least = math.inf
    end = time.perf_counter() + ENOUGH_S
    for run in itertools.count(1):
        began = time.perf_counter()
        tokens = score(candidate)
        now = time.perf_counter()
        least = min(least, (now - began) / tokens)
        if now >= end and run >= least_runs:
            break
    return least


def fastest_in_turns(
    expected_s: Mapping[int, float],
    score: Callable[[int], int],
    limit_s: float,
    clearly: float = CLEARLY,
) -> int:
    """Return the candidate with which `score` takes the least time per token, as `fastest` does.

    The candidates take turns, so that other programs slow down all of them. `expected_s` has the
    candidates, and at most how long each takes once. The first candidate shows how much less it is.
    Candidates that take too long are not measured. Others must be `clearly` times as fast.
    """
    first = next(iter(expected_s))
    if len(expected_s) == 1 or expected_s[first] > limit_s:
        return first

    def measure(candidate: int) -> float:
        began = time.perf_counter()
        tokens = score(candidate)
        taken_s = time.perf_counter() - began
        least[candidate] = min(least.get(candidate, math.inf), taken_s / tokens)
        return taken_s

    least: dict[int, float] = {}
    end = time.perf_counter() + limit_s
    scale = min(1.0, measure(first) / max(expected_s[first], 1e-9))
    share_s = limit_s / len(expected_s)
    others = [each for each in expected_s if each != first and expected_s[each] * scale <= share_s]
    for turn in range(TURNS if others else 0):
        for candidate in [first, *others] if turn else others:
            measure(candidate)
        if time.perf_counter() >= end:
            break
    best = first
    for candidate in others:
        if least[candidate] * clearly < least[best]:
            best = candidate
    return best
