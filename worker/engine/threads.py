"""Threads that score a batch each, with torch computing in one thread in each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from worker.engine import memory
from worker.engine.backoff import Item, Result, attempt

#: What a thread takes when it starts: its stack, above all.
START_BYTES = 16 * 2**20


class ScoringThreads:
    """A number of threads, for one caller at a time."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool = self._new_pool()
        self._started = False

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `function` of each item, computed in these threads."""
        futures: list[Future[Result]] = []
        with self._computing():
            futures.extend(self._pool.submit(function, item) for item in items)
            return [future.result() for future in futures]

    def attempt_each(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        one_at_a_time: bool = False,
    ) -> list[Result | Exception]:
        """Return results as `map` does, with the error in place of one for which memory ran out."""
        with self._computing():
            if one_at_a_time:
                outcomes = [attempt(self._pool.submit(function, item).result) for item in items]
            else:
                futures = [self._pool.submit(function, item) for item in items]
                outcomes = [attempt(future.result) for future in futures]
        if any(isinstance(outcome, Exception) for outcome in outcomes):
            self._renew()
        return outcomes

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with torch_threads(1):
            try:
                self._require_memory_to_start()
                yield
            except BaseException:  # the time limit's too, which strikes at any moment
                self._renew()
                raise

    def _require_memory_to_start(self) -> None:
        """Raise `MemoryError` early: Python waits for ever for a thread that had none to start."""
        if not self._started:
            memory.require(self._number * START_BYTES)
            self._started = True

    def _renew(self) -> None:
        """Start new threads: one in which oneDNN once had no memory for a kernel makes no other."""
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._new_pool()
        self._started = False

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._number, "score", torch.set_num_threads, (1,))


def prefetch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield results as `map` does, and make the next one in a thread meanwhile."""
    with ThreadPoolExecutor(1, "prefetch") as thread:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(thread.submit(function, item))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this number of threads for one operation, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
