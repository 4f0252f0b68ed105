"""Each thread scores a batch, and one that ran out of memory leaves no trace that matters."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from billiard.exceptions import SoftTimeLimitExceeded

from tests.processes import limited_memory, linux_only, wait_until
from worker.engine.backoff import attempt_each
from worker.engine.threads import START_BYTES, ScoringThreads, prefetch, torch_threads

Result = int | Exception


def tens(item: int) -> int:
    """Return ten times the item; odd items fail for lack of memory."""
    if item % 2:
        raise MemoryError(item)
    return 10 * item


def told(outcomes: list[Result]) -> list[int | str]:
    """Return the results, and the messages of the errors."""
    return [f"no memory for {each}" if isinstance(each, Exception) else each for each in outcomes]


# Results


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_come_in_the_items_order(number: int) -> None:
    assert ScoringThreads(number).map(lambda item: 10 * item, range(50)) == list(range(0, 500, 10))
    tried = ScoringThreads(number).attempt_each(lambda item: 10 * item, range(50))
    assert tried == list(range(0, 500, 10))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_no_items_have_no_results(number: int, alone: bool) -> None:
    assert ScoringThreads(number).attempt_each(tens, [], one_at_a_time=alone) == []


@pytest.mark.parametrize("alone", [False, True])
def test_where_memory_ran_out_stands_the_error_and_the_others_are_done(alone: bool) -> None:
    expected = [0, "no memory for 1", 20, "no memory for 3", 40]
    assert told(ScoringThreads(2).attempt_each(tens, range(5), one_at_a_time=alone)) == expected
    assert told(attempt_each(tens, range(5))) == expected


@pytest.mark.parametrize("error", [ValueError("no kernel"), SoftTimeLimitExceeded(), SystemExit(3)])
@pytest.mark.parametrize("way", ["in threads", "alone", "own thread"])
def test_what_is_no_lack_of_memory_comes_out(way: str, error: BaseException) -> None:
    def fail(_item: int) -> int:
        raise error

    ways: dict[str, Callable[[], object]] = {
        "in threads": lambda: ScoringThreads(2).attempt_each(fail, range(3)),
        "alone": lambda: ScoringThreads(2).attempt_each(fail, range(3), one_at_a_time=True),
        "own thread": lambda: attempt_each(fail, range(3)),
    }
    with pytest.raises(type(error)) as caught:
        ways[way]()
    assert caught.value is error


def test_as_many_are_done_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3)
    places = ScoringThreads(3).map(lambda _: together.wait(30), range(9))
    assert sorted(places) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_alone_never_two_are_done_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    def count(item: int) -> int:
        inside.append(item)
        most.append(len(inside))
        for _ in range(1_000):  # so that others could come in
            torch.ones(10).sum()
        inside.remove(item)
        return item

    assert ScoringThreads(4).attempt_each(count, range(40), one_at_a_time=True) == list(range(40))
    assert max(most) == 1


def test_the_callers_own_thread_is_enough_where_there_are_no_others() -> None:
    caller = threading.get_ident()
    assert attempt_each(lambda _: threading.get_ident(), range(3)) == [caller] * 3


# After a failure


def test_after_a_failure_nothing_goes_on_behind_it() -> None:
    begun: list[int] = []

    def fail(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError
        return item

    with pytest.raises(ValueError):  # noqa: PT011
        ScoringThreads(1).attempt_each(fail, range(1_000))
    after = len(begun)
    assert ScoringThreads(1).map(tens, [2]) == [20]
    assert len(begun) == after


@pytest.mark.parametrize("alone", [False, True])
def test_after_a_lack_of_memory_threads_are_new_ones(alone: bool) -> None:
    """Check a thread's state, because oneDNN keeps an entry for what it had no memory for."""
    threads, local = ScoringThreads(1), threading.local()

    def is_new(item: int) -> bool:
        new = not hasattr(local, "seen")
        local.seen = True
        if item:
            raise MemoryError
        return new

    assert threads.attempt_each(is_new, [0, 0], one_at_a_time=alone) == [True, False]
    threads.attempt_each(is_new, [1, 0], one_at_a_time=alone)
    assert threads.attempt_each(is_new, [0, 0], one_at_a_time=alone) == [True, False]


def test_threads_that_were_replaced_end() -> None:
    threads = ScoringThreads(2)
    before = {each.ident for each in threading.enumerate()}
    for _ in range(10):
        threads.attempt_each(tens, range(4))
    wait_until(
        lambda: len({each.ident for each in threading.enumerate()} - before) <= 2, "threads end"
    )


class Tensor:
    """Imitates a batch's memory."""


@pytest.mark.parametrize("way", ["in threads", "alone", "own thread"])
def test_what_had_no_memory_is_not_held_by_its_error(way: str) -> None:
    held: list[weakref.ref[Tensor]] = []

    def fail(_item: int) -> int:
        activations = Tensor()
        held.append(weakref.ref(activations))
        raise MemoryError

    ways: dict[str, Callable[[], list[Result]]] = {
        "in threads": lambda: ScoringThreads(2).attempt_each(fail, range(3)),
        "alone": lambda: ScoringThreads(2).attempt_each(fail, range(3), one_at_a_time=True),
        "own thread": lambda: attempt_each(fail, range(3)),
    }
    outcomes = ways[way]()
    assert [type(each) for each in outcomes] == [MemoryError] * 3
    wait_until(lambda: all(each() is None for each in held), "no object holds it")
    assert len(held) == 3


# Torch's own threads


@pytest.mark.parametrize("alone", [False, True])
def test_torch_computes_in_one_thread_in_each_and_then_in_as_many_as_before(alone: bool) -> None:
    with torch_threads(3):
        threads = ScoringThreads(2)
        assert threads.map(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
        assert (
            threads.attempt_each(lambda _: torch.get_num_threads(), range(4), one_at_a_time=alone)
            == [1] * 4
        )
        assert torch.get_num_threads() == 3
        threads.attempt_each(tens, range(4), one_at_a_time=alone)
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_torch_has_as_many_threads_as_asked_and_then_as_before(threads: int) -> None:
    with torch_threads(2):
        with torch_threads(threads):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2


def test_torch_has_as_many_threads_as_before_also_after_a_failure() -> None:
    with torch_threads(2):
        with pytest.raises(MemoryError), torch_threads(3):
            raise MemoryError
        assert torch.get_num_threads() == 2


# Working ahead


@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_results_made_ahead_come_in_order(number: int) -> None:
    assert list(prefetch(lambda item: item * 10, range(number))) == [
        item * 10 for item in range(number)
    ]


def test_the_next_result_is_being_made_while_the_last_is_used() -> None:
    began = {item: threading.Event() for item in range(4)}

    def make(item: int) -> int:
        began[item].set()
        return item

    for item in prefetch(make, range(4)):
        assert item == 3 or began[item + 1].wait(30)


def test_no_more_than_the_next_result_is_made_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(9):
            taken.append(item)
            yield item

    results = prefetch(lambda item: item, items())
    assert taken == []
    for place in range(3):
        assert next(results) == place
        assert taken == list(range(place + 2))


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_failure_ahead_comes_out_after_the_results_before_it(bad: int) -> None:
    def make(item: int) -> int:
        if item == bad:
            raise KeyError(item)
        return item

    results = prefetch(make, range(4))
    assert [next(results) for _ in range(bad)] == list(range(bad))
    with pytest.raises(KeyError, match=str(bad)):
        next(results)


# Without memory


@linux_only
def test_threads_that_have_no_room_to_start_are_an_error_and_not_waited_for() -> None:
    threads = ScoringThreads(2)
    with (
        limited_memory([os.getpid()], START_BYTES),
        pytest.raises(MemoryError, match="cannot allocate"),
    ):
        threads.map(abs, [-1])
    assert threads.map(abs, [-1]) == [1]
