"""Warm-up: score made-up pairs after loading, so that a faulty model fails before any job."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from worker.engine.probes import UNEQUAL_PROBES
from worker.engine.protocol import Engine
from worker.engine.unique_pairs import score_unique

logger = logging.getLogger(__name__)

#: Tokens of the first timed pairs.
FIRST_LENGTH = 128
#: Skip a pass if the warm-up would take longer than this, in seconds.
LIMIT_S = 30.0
#: Skip a pass unless it is longer than the previous one by this factor.
LEAST_GROWTH = 1.25


def warm_up(engine: Engine, model: str, progress: Callable[[str], object]) -> None:
    """Score unequal pairs, then the largest shape, so that lack of memory shows at once.

    `progress` is called with a description of each step.
    """

    def score_full_batches(length: int) -> None:
        progress(
            f"warming up model {model!r} with pairs of {length:,} tokens"
            f" (maximum {engine.max_length:,})"
        )
        longest = " a" * length  # a word is at least one token
        in_batch = max(1, engine.budget.full // length)
        pairs = in_batch * engine.batches_at_once
        score_unique(engine, [(f"query {number}", longest) for number in range(pairs)])

    score_unique(engine, UNEQUAL_PROBES)
    score_growing_lengths(model, engine.max_length, score_full_batches)


def score_growing_lengths(
    model: str,
    max_length: int,
    score: Callable[[int], object],
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Score pairs of growing lengths, up to `max_length` tokens if time allows.

    `score` is called with a number of tokens. A pass with pairs twice as long is assumed to take
    four times as long, as attention does. Returns the number of tokens reached.
    """
    began = clock()
    length = min(FIRST_LENGTH, max_length)
    while True:
        start = clock()
        score(length)
        took = max(clock() - start, 1e-6)
        if length == max_length:
            return length
        left = limit_s - (clock() - began)
        longest = int(length * math.sqrt(max(left, 0.0) / took))
        if longest < max_length and longest < LEAST_GROWTH * length:
            break
        length = min(longest, max_length)
    logger.warning(
        "Stopped the warm-up of model %s after %.0f s, at pairs of %s tokens. The longest pairs, of"
        " %s tokens, may take about %s s each, and may run out of memory in a job. To read fewer"
        " tokens of each pair, set RERANKQ_MAX_LENGTH",
        model,
        clock() - began,
        f"{length:,}",
        f"{max_length:,}",
        f"{took * (max_length / length) ** 2:,.0f}",
    )
    return length
