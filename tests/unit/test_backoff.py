"""If memory runs out, batches shrink until they fit, and each pair is scored exactly once.

The memory is simulated: a batch fits if it has no more tokens than there is room for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from contract.errors import BadScores
from worker.engine import backoff, batches
from worker.engine.backoff import GROW_AFTER, BatchBudget, Batches, BatchOutcome
from worker.engine.batches import ScoreArray
from worker.engine.statistics import BatchStatistics

FULL = 1_024


class Memory:
    """An engine with room for this many tokens; the score of a pair is its position."""

    def __init__(self, lengths: Sequence[int], room: int) -> None:
        self.lengths = lengths
        self.room = room
        #: The batches that did not fit, and the pairs that were scored.
        self.failed: Batches = []
        self.scored: list[int] = []
        self.errors: list[MemoryError] = []
        #: Whether batches came one at a time, in each round.
        self.alone: list[bool] = []

    def attempt_batches(self, made: Batches, alone: bool) -> list[BatchOutcome]:
        self.alone.append(alone)
        return [self._score(batch, alone) for batch in made]

    def _score(self, batch: list[int], alone: bool) -> BatchOutcome:
        if self.tokens(batch) > self.room_for_one(alone):
            self.failed.append(batch)
            self.errors.append(MemoryError(f"no room for {batch}"))
            return self.errors[-1]
        self.scored += batch
        return np.array(batch, np.float32)

    def room_for_one(self, alone: bool) -> int:
        return self.room

    def tokens(self, batch: list[int]) -> int:
        return sum(self.lengths[place] for place in batch)


class Shared(Memory):
    """An engine in which two batches at a time must fit, unless they come one at a time."""

    def room_for_one(self, alone: bool) -> int:
        return self.room if alone else self.room // 2


def make_batches(lengths: Sequence[int], max_tokens: int) -> Batches:
    return list(batches.make_batches(lengths, max_tokens))


def backed_off(
    lengths: Sequence[int],
    budget: BatchBudget,
    attempt_batches: Callable[[Batches, bool], list[BatchOutcome]],
) -> ScoreArray:
    return backoff.score_with_backoff(
        lengths, budget, make_batches, attempt_batches, BatchStatistics()
    )


def score(memory: Memory, budget: BatchBudget) -> list[float]:
    scores: list[float] = backed_off(memory.lengths, budget, memory.attempt_batches).tolist()
    return scores


def any_lengths(seed: int) -> list[int]:
    """Return up to 300 random lengths, of at most 64 tokens."""
    chance = random.Random(seed)
    return [chance.randint(1, 64) for _ in range(chance.randint(1, 300))]


def lowered(budget: BatchBudget, times: int = 1) -> BatchBudget:
    for _ in range(times):
        budget.halve()
    return budget


# Scores


@pytest.mark.parametrize("kind", [Memory, Shared])
@pytest.mark.parametrize("room", [128, 130, 257, 600, 1_000, 10_000])
@pytest.mark.parametrize("seed", range(8))
def test_every_pair_is_scored_exactly_once_whatever_the_room(
    kind: type[Memory], room: int, seed: int
) -> None:
    memory = kind(any_lengths(seed), room)
    scores = score(memory, BatchBudget(FULL))
    assert scores == list(range(len(memory.lengths)))
    assert sorted(memory.scored) == list(range(len(memory.lengths)))


@pytest.mark.parametrize("seed", range(8))
def test_with_room_for_all_there_is_one_round_and_no_smaller_budget(seed: int) -> None:
    memory, budget = Memory(any_lengths(seed), FULL), BatchBudget(FULL)
    score(memory, budget)
    assert memory.alone == [False]
    assert budget.tokens == FULL


def test_scores_may_be_rows() -> None:
    memory = Memory([5, 9, 1, 7], room=10)

    def attempt_batches(made: Batches, alone: bool) -> list[BatchOutcome]:
        tried = memory.attempt_batches(made, alone)
        return [each if isinstance(each, Exception) else np.stack([each] * 3, 1) for each in tried]

    scores = backoff.score_with_backoff(
        memory.lengths, BatchBudget(FULL), make_batches, attempt_batches, BatchStatistics()
    )
    assert scores.tolist() == [[place] * 3 for place in range(4)]
    assert memory.failed


def test_a_wrong_number_of_scores_is_found_out_after_memory_ran_out_too() -> None:
    memory = Memory([1] * 8, room=4)

    def loses_one(made: Batches, alone: bool) -> list[BatchOutcome]:
        tried = memory.attempt_batches(made, alone)
        return [each if isinstance(each, Exception) else each[1:] for each in tried]

    with pytest.raises(BadScores, match="the model returned 3 scores for 4 pairs"):
        backoff.score_with_backoff(
            memory.lengths, BatchBudget(8), make_batches, loses_one, BatchStatistics()
        )


# The budget


@pytest.mark.parametrize(
    ("room", "budget"),
    [
        (FULL, FULL),
        (FULL - 1, FULL // 2),
        (FULL // 2, FULL // 2),
        (FULL // 2 - 1, FULL // 4),
        (100, 64),
        (2, 2),
        (1, 1),
    ],
)
def test_the_budget_ends_at_the_largest_half_of_a_half_that_fits(room: int, budget: int) -> None:
    # Given pairs of one token, so that batches are as large as they may be
    memory, lowered_to = Memory([1] * 3 * FULL, room), BatchBudget(FULL)
    score(memory, lowered_to)
    assert lowered_to.tokens == budget
    assert lowered_to.full == FULL


@pytest.mark.parametrize("full", [1, 3, 1_000, 4_097])
def test_a_budget_of_any_size_can_be_halved_down_to_one_token(full: int) -> None:
    memory, budget = Memory([1] * 20, room=1), BatchBudget(full)
    assert score(memory, budget) == list(range(20))
    assert 1 <= budget.tokens <= full
    assert lowered(budget, 20).tokens == 1


def test_the_next_job_does_not_run_into_the_same_wall() -> None:
    budget = BatchBudget(FULL)
    score(Memory([1] * 3 * FULL, room=100), budget)
    again = Memory([1] * 3 * FULL, room=100)
    score(again, budget)
    assert again.failed == []


def test_a_lowered_budget_grows_back_after_twenty_jobs_step_by_step() -> None:
    budget = lowered(BatchBudget(FULL), 2)
    sizes = []
    for _ in range(3 * GROW_AFTER):
        score(Memory([1] * 10, room=FULL), budget)
        sizes.append(budget.tokens)
    assert GROW_AFTER == 20
    assert sizes == [FULL // 4] * 19 + [FULL // 2] * 20 + [FULL] * 21


def test_a_budget_that_is_no_power_of_two_grows_back_to_what_it_was_and_no_further() -> None:
    budget = lowered(BatchBudget(1_000), 4)
    assert budget.tokens == 62
    for _ in range(10 * GROW_AFTER):
        budget.record_success()
    assert budget.tokens == budget.full == 1_000


def test_jobs_are_counted_anew_after_each_halving() -> None:
    budget = lowered(BatchBudget(FULL))
    for _ in range(GROW_AFTER - 1):
        budget.record_success()
    budget.halve()
    for _ in range(GROW_AFTER - 1):
        budget.record_success()
    assert budget.tokens == FULL // 4
    budget.record_success()
    assert budget.tokens == FULL // 2


def test_a_job_that_failed_does_not_let_the_budget_grow() -> None:
    budget = lowered(BatchBudget(FULL))
    for _ in range(2 * GROW_AFTER):
        with pytest.raises(MemoryError):
            score(Memory([100], room=99), budget)
    assert budget.tokens == FULL // 2


# At the smallest size


def test_a_pair_that_does_not_fit_alone_raises_what_it_met() -> None:
    memory, budget = Memory([10] * 30 + [300] + [10] * 30, room=299), BatchBudget(FULL)
    with pytest.raises(MemoryError) as caught:
        score(memory, budget)
    assert caught.value is memory.errors[-1]
    assert memory.failed[-1] == [30]
    # All others were scored, and their size is kept.
    assert sorted(memory.scored) == [place for place in range(61) if place != 30]
    assert 1 < budget.tokens < FULL


def test_one_at_a_time_is_tried_before_giving_up() -> None:
    # Given room for one pair, and not for two
    memory = Shared([100] * 9, room=150)
    assert score(memory, BatchBudget(FULL)) == list(range(9))
    # Then they come one at a time in the end, and not before
    assert memory.alone[-1]
    assert not any(memory.alone[:-1])
    assert {len(batch) for batch in memory.failed[-9:]} == {1}


def test_a_pair_is_given_up_only_after_it_was_tried_one_at_a_time() -> None:
    memory = Memory([100] * 3, room=99)
    with pytest.raises(MemoryError):
        score(memory, BatchBudget(FULL))
    assert memory.alone[-2:] == [False, True]
    assert memory.scored == []


def test_what_did_not_fit_for_a_while_is_scored_once_there_is_room() -> None:
    """Batches return to their size, because another process may have taken the memory."""

    class Passing(Memory):
        def room_for_one(self, alone: bool) -> int:
            return self.room if len(self.failed) >= 3 else 0

    memory, budget = Passing([8] * 40, room=FULL), BatchBudget(64)
    assert score(memory, budget) == list(range(40))
    assert budget.tokens == 32


@pytest.mark.parametrize("error", [ValueError("no memory at all"), KeyError(1), SystemExit()])
def test_what_is_no_lack_of_memory_passes_through(error: BaseException) -> None:
    budget = lowered(BatchBudget(FULL))

    def attempt_batches(_made: Batches, _alone: bool) -> list[BatchOutcome]:
        raise error

    with pytest.raises(type(error)) as caught:
        backoff.score_with_backoff(
            [1, 2, 3], budget, make_batches, attempt_batches, BatchStatistics()
        )
    assert caught.value is error
    assert budget.tokens == FULL // 2


def test_the_log_says_how_far_it_came_and_how_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    score(Shared([100] * 4, room=150), BatchBudget(100))
    assert [each.getMessage() for each in caplog.records] == [
        "Out of memory with 4 of 4 pairs left to score: retrying with batches of 100 tokens,"
        " one at a time"
    ]
    caplog.clear()
    score(Memory([60, 50, 40], room=100), BatchBudget(120))
    assert [each.getMessage() for each in caplog.records] == [
        "Out of memory with 2 of 3 pairs left to score: retrying with batches of 60 tokens"
    ]
