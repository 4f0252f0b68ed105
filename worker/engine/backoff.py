"""Out-of-memory backoff: retry with smaller batches, without scoring a pair twice.

The process remembers the batch size that worked, so that the next job does not run out of memory in
the same way. The size grows back slowly, because another process may have used the memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from contract.printable import counted
from worker.engine import batches, memory
from worker.engine.batches import ScoreArray
from worker.engine.statistics import BatchStatistics

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Jobs that must succeed with a reduced budget before twice as much is tried.
GROW_AFTER = 20
#: Token budget of a batch after an attempt that may have been killed for its memory.
SMALL_BATCH_TOKENS = 512

#: Batches of pairs, as indexes of the pairs.
Batches = list[list[int]]
#: The scores of a batch, or its out-of-memory error.
BatchOutcome = ScoreArray | Exception


class BatchBudget:
    """The token budget of a batch, reduced while memory is short."""

    def __init__(self, tokens: int) -> None:
        self.full = self.tokens = tokens
        self._jobs = 0

    def halve(self) -> None:
        """Halve the budget."""
        self.tokens = max(1, self.tokens // 2)
        self._jobs = 0

    def record_success(self) -> None:
        """Record a job that was scored within this budget."""
        if self.tokens < self.full:
            self._jobs += 1
        if self._jobs == GROW_AFTER:
            self.tokens = min(self.full, 2 * self.tokens)
            self._jobs = 0

    def small(self) -> BatchBudget:
        """Return a budget of small batches, independent of this one."""
        return BatchBudget(min(self.tokens, SMALL_BATCH_TOKENS))


def score_with_backoff(
    lengths: Sequence[int],
    budget: BatchBudget,
    make_batches: Callable[[Sequence[int], int], Batches],
    attempt_batches: Callable[[Batches, bool], list[BatchOutcome]],
    statistics: BatchStatistics,
) -> ScoreArray:
    """Return the scores of pairs with these lengths (in tokens), in their order.

    `make_batches` makes batches within a number of tokens. `attempt_batches` scores as many of them
    as memory allows, one at a time if its second argument is true. Raises the out-of-memory error
    of a pair that fails even when scored alone.
    """
    done: Batches = []
    scores: list[ScoreArray] = []
    left = list(range(len(lengths)))
    one_at_a_time = False
    while left:
        made = make_batches([lengths[index] for index in left], budget.tokens)
        now = [[left[place] for place in batch] for batch in made]
        outcomes = attempt_batches(now, one_at_a_time)
        failed: Batches = []
        errors: list[Exception] = []
        for batch, outcome in zip(now, outcomes, strict=True):
            if isinstance(outcome, Exception):
                failed.append(batch)
                errors.append(outcome)
            else:
                done.append(batch)
                scores.append(outcome)
        if not failed:
            break
        left = sorted(index for batch in failed for index in batch)
        statistics.out_of_memory += 1
        memory.release_unused()
        if max(map(len, failed)) > 1:
            budget.halve()
            statistics.budget_reductions += 1
        elif one_at_a_time:
            raise errors[0]
        else:
            one_at_a_time = True
        logger.warning(
            "Out of memory with %d of %s left to score: retrying with batches of %s%s",
            len(left),
            counted(len(lengths), "pair"),
            counted(budget.tokens, "token"),
            ", one at a time" if one_at_a_time else "",
        )
    budget.record_success()
    return batches.restore_order(done, scores)


def attempt_each(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> list[Result | Exception]:
    """Return the result of each item, with an error in place of each one that ran out of memory."""
    return [attempt(partial(function, item)) for item in items]


def attempt(call: Callable[[], Result]) -> Result | Exception:
    """Return the result of a call, or its error if memory ran out. Other errors are raised."""
    try:
        return call()
    except Exception as error:
        if not memory.ran_out(error):
            raise
        memory.release_frames(error)
        return error
