"""Choose the number of pairs in each job, so that a job keeps a worker busy for about a second.

A resumed run finds the jobs in flight by their ids, which depend on the queries in each job. The
journal therefore records each change, and a resumed run makes the same jobs again.
"""

from __future__ import annotations

from collections import deque

from contract.records import Provenance
from producer.rescore.journal import Journal
from producer.rescore.options import LEAST_PAIRS, MOST_PROCESSES, Options
from producer.rescore.window import Window

#: The time that a process should take for a job. The work of the queue for a job takes a few
#: milliseconds, and at the end of a run, workers wait for the last jobs.
JOB_S = 1.0
#: The size is changed if it is wrong by this factor, according to at least `RESULTS` results. It
#: grows by at most `GROWTH` at once, because the first results are those of the fastest workers.
FACTOR = 2
GROWTH = 4
RESULTS = 4


class JobSizes:
    """The number of pairs of each job of a round.

    Unless the options fix it, it follows the speed of the workers, up to `largest`.
    """

    def __init__(self, journal: Journal, options: Options, largest: int, window: Window) -> None:
        self._journal = journal
        self._options = options
        self._largest = largest
        self._window = window
        #: The changes of an earlier start, which are repeated.
        self._recorded = deque(journal.job_sizes)
        self._most_in_flight = journal.most_in_flight
        #: The number of jobs to send before the next change, because an earlier start may have sent
        #: them already.
        self._repeated = journal.most_in_flight + MOST_PROCESSES if journal.most_in_flight else 0
        self._observed: deque[Provenance] = deque(maxlen=4 * RESULTS)
        #: The current number of pairs.
        self.pairs = min(journal.first_job_size or options.first_pairs_per_job, largest)

    def next(self, place: int) -> int:
        """Return the number of pairs of the job that begins with the query at `place`.

        Places are counted from 0 within the round. Call it for all jobs, in their order.
        """
        while self._recorded and self._recorded[0][0] <= place:
            self.pairs = self._recorded.popleft()[1]
        if not self._recorded and self._repeated <= 0:
            pairs = self._wanted()
            if pairs != self.pairs:
                self._observed.clear()
                self._journal.record_job_size(place, pairs)
                self.pairs = pairs
        return min(self.pairs, self._largest)

    def sending(self) -> None:
        """Note that a job is about to be sent."""
        self._repeated -= 1
        if self._window.jobs > self._most_in_flight:
            self._most_in_flight = 2 * self._window.jobs  # in steps, so that few are recorded
            self._journal.record_most_in_flight(self._most_in_flight)

    def observe(self, provenance: Provenance) -> None:
        """Take account of the time that a job took."""
        self._observed.append(provenance)

    def _wanted(self) -> int:
        if self._options.pairs_per_job is not None:
            return min(self._options.pairs_per_job, self._largest)
        if len(self._observed) < RESULTS:
            return self.pairs
        seconds = sum(each.seconds for each in self._observed)
        pairs = sum(each.passages_scored or each.pairs for each in self._observed)
        wanted = min(round(JOB_S * pairs / seconds), self._limit()) if seconds else self._limit()
        wanted = max(wanted, min(LEAST_PAIRS, self._largest))
        if self.pairs / FACTOR < wanted < self.pairs * FACTOR:
            return self.pairs
        return min(wanted, GROWTH * self.pairs)

    def _limit(self) -> int:
        share = self._options.run_pairs // self._window.jobs_per_run
        return min(self._largest, max(LEAST_PAIRS, share))
