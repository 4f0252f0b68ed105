"""Settings found by measuring, within a bounded time, on the machine and the model at hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

#: Time for one choice: a slow model has measured fewer candidates by then.
LIMIT_S = 0.4
#: A candidate is measured for at least this long, unless one run takes longer.
ENOUGH_S = 0.03
#: What is chosen against an earlier candidate has to be faster by this factor: the rest is noise.
CLEARLY = 1.03


def fastest(candidates: Sequence[int], score: Callable[[int], int]) -> int:
    """Return the candidate with which `score` takes the least time for each token.

    `score` returns a number of tokens. The first candidate is the one to beat. A candidate that is
    expected to need more time than is left is not tried.
    """
    end = time.perf_counter() + LIMIT_S
    best, least = candidates[0], math.inf
    for candidate in candidates:
        now = time.perf_counter()
        if now >= end or (least < math.inf and now + least * candidate > end):
            continue
        seconds = seconds_per_token(candidate, score)
        if seconds * CLEARLY < least:
            best, least = candidate, seconds
    return best


def seconds_per_token(candidate: int, score: Callable[[int], int]) -> float:
    """Return the time of the best of some runs."""
    least = math.inf
    end = time.perf_counter() + ENOUGH_S
    while True:
        began = time.perf_counter()
        tokens = score(candidate)
        now = time.perf_counter()
        least = min(least, (now - began) / tokens)
        if now >= end:
            return least
