"""Threads that score one batch each, with torch limited to one thread in each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from worker.engine import memory
from worker.engine.backoff import Item, Result, attempt

#: Memory that a thread needs to start, mostly for its stack.
START_BYTES = 16 * 2**20
#: Minimum work to hand to another thread, in seconds: waking a thread takes some milliseconds.
LEAST_SHARE_S = 0.005


class ScoringThreads:
    """A thread pool that serves one caller at a time."""

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
        """Return results as `map` does, with an error for each item that ran out of memory."""
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
            except BaseException:  # including the time limit's, which can occur anywhere
                self._renew()
                raise

    def _require_memory_to_start(self) -> None:
        """Raise `MemoryError` early: Python waits forever for a thread with no memory to start."""
        if not self._started:
            memory.require(self._number * START_BYTES)
            self._started = True

    def _renew(self) -> None:
        """Replace the threads: after oneDNN runs out of memory in one, it makes no more kernels."""
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._new_pool()
        self._started = False

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._number, "score", torch.set_num_threads, (1,))


def prefetch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield results as `map` does, computing the next one in a thread in the background."""
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
    """Let torch use this number of threads per operation, and restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
