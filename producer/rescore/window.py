"""Limit the number of jobs in flight: to a fixed number, or to what the workers can work on.

By itself, the limit is two jobs for each process that scores: one that it works on, and one that
waits for it. It follows when workers come and go.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from contract.errors import RerankError
from producer.client.blocking import RerankClient
from producer.rescore.options import LEAST_JOBS, MOST_JOBS

JOBS_PER_CHILD = 2
#: At the end of a run, a process waits for the others for at most the time of one job.
JOBS_PER_CHILD_AND_RUN = 4
#: The maximum number of characters in the texts of the jobs in flight, unless the number of jobs is
#: fixed. They are in the memory of this process, and compressed in that of Redis. It is more than
#: one process sends while a job of a few seconds is scored.
MOST_CHARS = 64 * 1024 * 1024
#: The first question is late, because the workers are not asked for a run of a second.
FIRST_ASK_S = 1.0
ASK_INTERVAL_S = 10.0
ANSWER_TIMEOUT_S = 1.0
#: A busy worker may answer late, so the last few answers of each worker count.
ANSWERS_KEPT = 3


class Window:
    """Limits the jobs in flight to a fixed number, or to what `workers` can work on.

    Use it in a `with` block, in which a thread asks the workers from time to time.
    """

    def __init__(
        self,
        limit: int | WorkerCount,
        most_jobs: int = MOST_JOBS,
        *,
        most_chars: int | None = MOST_CHARS,
    ) -> None:
        self._limit = limit
        self._most_jobs = max(LEAST_JOBS, most_jobs)
        self._most_chars = most_chars

    @classmethod
    def of(cls, client: RerankClient, fixed: int | None, children: int = 0) -> Self:
        """Return a window of `fixed` jobs, or one that follows the workers if that is None.

        `children` is the number of processes of workers that is known so far.
        """
        workers = WorkerCount(lambda: _children_of_workers(client), children)
        # Other producers use the same queue.
        most_jobs = min(MOST_JOBS, client.settings.max_queue_length // 4)
        return cls(fixed or workers, most_jobs, most_chars=None if fixed else MOST_CHARS)

    def resize(self, jobs: int) -> None:
        """Set the number of jobs in flight."""
        self._limit = jobs

    @property
    def jobs(self) -> int:
        """The maximum number of jobs in flight at present."""
        if isinstance(self._limit, int):
            return self._limit
        return min(self._most_jobs, _jobs_for(self._limit.children))

    @property
    def jobs_per_run(self) -> int:
        """The least number of jobs into which a run is divided, so that all workers are busy."""
        if isinstance(self._limit, int):
            return max(2 * LEAST_JOBS, self._limit)
        least = LEAST_JOBS if self._limit.is_complete else 2 * LEAST_JOBS
        return max(least, JOBS_PER_CHILD_AND_RUN * self._limit.children)

    def has_room(self, jobs: int, chars: int) -> bool:
        """Return whether another job may be sent, given those in flight and their characters."""
        too_long = self._most_chars is not None and jobs >= LEAST_JOBS and chars >= self._most_chars
        return jobs < self.jobs and not too_long

    def __enter__(self) -> Self:
        if isinstance(self._limit, WorkerCount):
            self._limit.start()
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._limit, WorkerCount):
            self._limit.stop()


class WorkerCount:
    """Counts the processes that score, in a thread that calls `ask` from time to time."""

    def __init__(
        self,
        ask: Callable[[], Mapping[str, int]],
        children: int = 0,
        *,
        first_s: float = FIRST_ASK_S,
        interval_s: float = ASK_INTERVAL_S,
    ) -> None:
        self._ask = ask
        self._first_s, self._interval_s = first_s, interval_s
        self._answers: deque[Mapping[str, int]] = deque(maxlen=ANSWERS_KEPT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker-count", daemon=True)
        #: The number of processes of the workers that have answered lately.
        self.children = children
        #: Whether all workers have been asked.
        self.is_complete = False

    def start(self) -> None:
        """Start to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to ask; a question under way ends after `ANSWER_TIMEOUT_S`."""
        self._over.set()
        self._thread.join(2 * ANSWER_TIMEOUT_S)

    def _run(self) -> None:
        pause_s = self._first_s
        while not self._over.wait(pause_s):
            pause_s = self._interval_s
            # The sender of the jobs reports that Redis is away, and the last answers still count.
            with suppress(RerankError):
                self.add(self._ask())

    def add(self, answer: Mapping[str, int]) -> None:
        """Add the number of processes of each worker that has answered."""
        self._answers.append(answer)
        latest = {name: count for each in self._answers for name, count in each.items()}
        self.children = sum(latest.values())
        self.is_complete = True


def jobs_for(client: RerankClient) -> int:
    """Ask the workers, and return how many jobs keep them busy. Raises `RedisUnavailable`."""
    return _jobs_for(sum(_children_of_workers(client).values()))


def _jobs_for(children: int) -> int:
    return max(LEAST_JOBS, JOBS_PER_CHILD * children)


def _children_of_workers(client: RerankClient) -> dict[str, int]:
    """Ask the workers how many of their processes score. Raises `RedisUnavailable`."""
    answers = client.readiness(timeout_s=ANSWER_TIMEOUT_S)
    return {name: answer.children for name, answer in answers.items()}
