"""Threads that score a batch each, with torch computing in one thread in each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch

from worker.engine import memory

Item = TypeVar("Item")
Result = TypeVar("Result")


#: What a thread takes when it starts: its stack, above all.
START_BYTES = 16 * 2**20


class Threads:
    """So many threads, for one caller at a time."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool = self._new_pool()
        self._started = False

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`function` of each item, in these threads."""
        futures: list[Future[Result]] = []
        with self._computing():
            futures.extend(self._pool.submit(function, item) for item in items)
            return [future.result() for future in futures]

    def try_each(
        self, function: Callable[[Item], Result], items: Sequence[Item], alone: bool
    ) -> list[Result | Exception]:
        """As `each`; in place of a result for which memory ran out stands the error.

        `alone` never runs two at a time.
        """
        with self._computing():
            if alone:
                tried = [_caught(self._pool.submit(function, item).result) for item in items]
            else:
                futures = [self._pool.submit(function, item) for item in items]
                tried = [_caught(future.result) for future in futures]
        if any(isinstance(each, Exception) for each in tried):
            self._renew()
        return tried

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with torch_threads(1):
            try:
                self._check_start()
                yield
            except BaseException:  # the time limit's too, which strikes at any moment
                self._renew()
                raise

    def _check_start(self) -> None:
        """Python waits for ever for a thread that had no memory to start."""
        if not self._started:
            memory.check_room(self._number * START_BYTES)
            self._started = True

    def _renew(self) -> None:
        """A thread in which oneDNN once had no memory for a kernel makes no other."""
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._new_pool()
        self._started = False

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._number, "score", torch.set_num_threads, (1,))


def try_each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result | Exception]:
    """`Threads.try_each` in the caller's own thread."""
    return [_caught(partial(function, item)) for item in items]


def _caught(call: Callable[[], Result]) -> Result | Exception:
    try:
        return call()
    except Exception as error:
        if not memory.ran_out(error):
            raise
        memory.let_go(error)
        return error


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """As `map`, with the next result made in a thread while the last one is used."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming: deque[Any] = deque()
        for item in items:
            coming.append(thread.submit(function, item))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads for one operation, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
