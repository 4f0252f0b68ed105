"""Find out which jobs of a batch have ended, for `as_completed` and `results` of both clients."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter

from contract.store.batches import READ_AT_ONCE, StoredBatch
from producer.client.watch import POLL_S

#: The number of outcomes that are in memory at the same time.
TAKEN_AT_ONCE = 20
#: Half of the number of open jobs whose states are read in case a notification was lost.
POLLED = 100
#: The longest interval between two such reads; they become rarer as long as they find nothing.
MAX_POLL_S = 5 * POLL_S


class EndedJobs:
    """The jobs of a batch that have ended; each is taken once.

    They are taken in the order in which they ended, or in the order of the batch. The states of all
    jobs are read at first. Later, those of a few open jobs are read from time to time: of the jobs
    that were submitted first, which workers score first, and of others in turn.
    """

    def __init__(self, batch: StoredBatch, *, in_order: bool) -> None:
        self.batch_id = batch.id
        #: The ends of the jobs' ids.
        self._names = [name for some in batch.names() for name in some]
        #: Those that are not known to have ended, in the order of the batch.
        self._open = dict.fromkeys(self._names)
        #: Whether jobs are taken in the order of the batch, and not in that of their ends.
        self.in_order = in_order
        #: Those that have ended and are not taken, in the order in which they ended.
        self._ready: deque[str] = deque()
        #: In the order of the batch, the number of jobs that were taken.
        self._taken = 0
        self._to_read: deque[str] = deque(self._names)
        #: What the first reading has found so far; None when it is complete.
        self._first_found: list[tuple[float, str]] | None = []
        #: Split jobs, some of whose parts have ended.
        self._split: set[str] = set()
        self._poll_s = POLL_S
        self._poll_at = 0.0

    @property
    def total(self) -> int:
        """Return the number of all jobs."""
        return len(self._names)

    @property
    def remaining(self) -> int:
        """Return the number of jobs that have not been taken."""
        return self.total - self._taken if self.in_order else len(self._open) + len(self._ready)

    @property
    def is_ready(self) -> bool:
        """Return whether there is a job to take."""
        return self._first_found is None and bool(self._next(1))

    def take(self) -> list[str]:
        """Return the ids of the next jobs that have ended, at most `TAKEN_AT_ONCE`."""
        names = self._next(TAKEN_AT_ONCE)
        if self.in_order:
            self._taken += len(names)
        else:
            for _ in names:
                self._ready.popleft()
        return [f"{self.batch_id}.{name}" for name in names]

    def put_back(self, job_ids: Iterable[str]) -> None:
        """Note that jobs have not ended after all, because they were queued again."""
        names = [self._name(job_id) for job_id in job_ids]
        self._open |= dict.fromkeys(names)
        if self.in_order and names:
            self._taken = self._names.index(names[0], max(0, self._taken - TAKEN_AT_ONCE))

    def _next(self, at_most: int) -> list[str]:
        if not self.in_order:
            return list(islice(self._ready, at_most))
        names = []
        for name in self._names[self._taken : self._taken + at_most]:
            if name in self._open:
                break
            names.append(name)
        return names

    def hear(self, job_ids: Iterable[str]) -> None:
        """Note that these jobs, or parts of them, have ended."""
        for job_id in job_ids:
            name = self._name(job_id)
            if name in self._open:
                self._end(name)
            elif (whole := name.partition(".")[0]) in self._open:
                self._split.add(whole)

    def seconds_until_reading(self) -> float:
        """Return how long to wait for notifications before states are read again."""
        if self._first_found is not None or self._split:
            return 0.0
        return max(0.0, self._poll_at - time.monotonic())

    def to_read(self) -> Sequence[str]:
        """Return the names of the jobs whose states must be read now."""
        if self._first_found is not None:
            return self._pop(READ_AT_ONCE)
        split = [*self._split]
        self._split.clear()
        if split:
            return split
        self._to_read = self._to_read or deque(self._open)
        return [*dict.fromkeys([*islice(self._open, POLLED), *self._pop(POLLED)])]

    def _pop(self, at_most: int) -> list[str]:
        return [self._to_read.popleft() for _ in range(min(at_most, len(self._to_read)))]

    def add_read(self, found: list[tuple[float, str]]) -> None:
        """Note which of the jobs that were read have ended, with the times of their ends."""
        if self._first_found is not None:
            self._first_found += found
            if self._to_read:
                return
            found, self._first_found = self._first_found, None
        elif not found:
            self._poll_s = min(2 * self._poll_s, MAX_POLL_S)
        found.sort(key=itemgetter(0))
        news = [name for _, name in found if self._end(name)]
        # If notifications were lost, the states of the next jobs are read soon.
        self._poll_s = POLL_S if news else self._poll_s
        self._poll_at = time.monotonic() + (0.0 if news else self._poll_s)

    def _end(self, name: str) -> bool:
        if name not in self._open:
            return False
        del self._open[name]
        if not self.in_order:
            self._ready.append(name)
        return True

    def _name(self, job_id: str) -> str:
        return job_id[len(self.batch_id) + 1 :]
