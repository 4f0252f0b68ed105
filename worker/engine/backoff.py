"""What to do when memory runs out in the middle of a job: smaller batches, and nothing twice.

The size that worked is remembered by the process, so that the next job does not run into the same
wall. It grows back slowly, because what was short of memory may have been another process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from worker.engine import batches, memory
from worker.runtime.counters import Work

logger = logging.getLogger(__name__)

#: Jobs that come through at a lowered budget before twice as much is tried.
GROW_AFTER = 20

Batches = list[list[int]]
#: Scores of a batch, or the lack of memory that it met.
Tried = batches.Scores | Exception


class Budget:
    """Tokens that a batch may have, lowered while memory is short."""

    def __init__(self, tokens: int) -> None:
        self.full = self.tokens = tokens
        self._jobs = 0

    def halve(self) -> None:
        """Take half from now on."""
        self.tokens = max(1, self.tokens // 2)
        self._jobs = 0

    def came_through(self) -> None:
        """Note a job that was scored with no more than this."""
        if self.tokens < self.full:
            self._jobs += 1
        if self._jobs == GROW_AFTER:
            self.tokens = min(self.full, 2 * self.tokens)
            self._jobs = 0


def score(
    lengths: Sequence[int],
    budget: Budget,
    cut: Callable[[Sequence[int], int], Batches],
    try_all: Callable[[Batches, bool], list[Tried]],
    work: Work,
) -> batches.Scores:
    """Scores of pairs of these lengths (tokens), in their order.

    `cut` makes batches within a number of tokens, and `try_all` scores as many of them as memory
    suffices for, if so told one at a time. Raises the lack of memory that a pair meets alone.
    """
    made: Batches = []
    scores: list[batches.Scores] = []
    left = list(range(len(lengths)))
    alone = False
    while left:
        now = [
            [left[at] for at in batch] for batch in cut([lengths[at] for at in left], budget.tokens)
        ]
        tried = try_all(now, alone)
        for batch, own in zip(now, tried, strict=True):
            if not isinstance(own, Exception):
                made.append(batch)
                scores.append(own)
        failed = [
            batch for batch, own in zip(now, tried, strict=True) if isinstance(own, Exception)
        ]
        if not failed:
            break
        error = next(own for own in tried if isinstance(own, Exception))
        left = sorted(at for batch in failed for at in batch)
        work.shortages += 1
        memory.free()
        if max(map(len, failed)) > 1:
            budget.halve()
            work.halvings += 1
        elif alone:
            raise error
        else:
            alone = True
        logger.warning(
            "Out of memory with %d of %d pairs left: going on with batches of %d tokens%s",
            *(len(left), len(lengths), budget.tokens, ", one at a time" if alone else ""),
        )
    budget.came_through()
    return batches.in_order(made, scores)
