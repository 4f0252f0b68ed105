"""Re-scores a staged collection through the queue, a window of jobs at a time.

Memory does not grow with the number of queries: requests are made as they are sent, results are
appended to the journal as they arrive and then removed from Redis.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from contract import jobs, names
from contract.errors import NoWorker, RerankError
from producer import prepare
from producer.client import RerankClient, Watch
from producer.journal import Journal
from producer.staging import Staging

#: Pairs of a job, at most and at least: with more, workers wait for the last one's end; with fewer,
#: a job's way through the queue shows beside its scoring.
MOST_PAIRS, LEAST_PAIRS = 1_000, 100
#: Jobs of a small run: enough to keep some workers busy to the end.
JOBS = 32

#: With no news for this long, the workers are asked whether they are there.
QUIET_S = 10.0


@dataclass(frozen=True)
class Options:
    """How to re-score."""

    model: str | None = None
    top_k: int | None = None
    #: Jobs in flight.
    window: int = 8
    pairs_per_job: int = MOST_PAIRS
    priority: int = names.PRIORITY_BULK
    #: How long to wait for a worker that answers, at the start and whenever all is quiet.
    worker_wait_s: float = 15.0


@dataclass
class Tally:
    """What has been done so far."""

    pairs: int = 0
    failed_pairs: int = 0
    queries: int = 0
    failed_queries: int = 0
    truncated: int = 0
    #: Queries by the model that scored them.
    models: Counter[str] = field(default_factory=Counter)
    #: Failed queries by the code of the failure.
    codes: Counter[str] = field(default_factory=Counter)
    #: The message of the first failure.
    first_failure: str | None = None


def job_size(pairs: int) -> int:
    """Pairs of each job of a run of so many pairs, unless told."""
    return min(MOST_PAIRS, max(LEAST_PAIRS, pairs // JOBS))


def rescore(
    client: RerankClient,
    staging: Staging,
    journal: Journal,
    options: Options,
    progress: Callable[[Tally], object],
) -> Tally:
    """Score all that is staged into the journal; `progress` is called after each job.

    A job that fails is noted in the journal, and the others go on. Raises `NoWorker`,
    `RedisUnavailable` or `InvalidInput`; jobs in flight are then cancelled.
    """
    run = _Rescoring(client, journal, options, progress)
    with client.watch() as watch:
        try:
            for job in _jobs(client, staging, options):
                while len(run.in_flight) >= options.window:
                    run.collect(watch)
                run.in_flight[client.submit_job(job, priority=options.priority)] = job
            while run.in_flight:
                run.collect(watch)
        except BaseException:
            run.give_up()
            raise
    return run.tally


def _jobs(client: RerankClient, staging: Staging, options: Options) -> Iterator[jobs.Job]:
    limits = client.settings
    groups = prepare.pack(
        staging.requests(options.top_k),
        max_pairs=min(options.pairs_per_job, limits.max_pairs_per_job),
        max_bytes=limits.max_bytes_per_job,
    )
    for group in groups:
        yield prepare.job(group, limits, model=options.model)


def require_worker(client: RerankClient, wait_s: float) -> None:
    """Raise `NoWorker` unless a worker answers within `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while not client.workers(timeout_s=1.0, at_most=1):
        if time.monotonic() >= deadline:
            raise NoWorker(
                f"no worker answers on {client.settings.redis_location}: start one with"
                " `celery -A worker worker`, or check its RERANKQ_REDIS_URL and"
                " RERANKQ_NAMESPACE"
            )


class _Rescoring:
    """The jobs in flight, and what became of the others."""

    def __init__(
        self,
        client: RerankClient,
        journal: Journal,
        options: Options,
        progress: Callable[[Tally], object],
    ) -> None:
        self.in_flight: dict[str, jobs.Job] = {}
        self.tally = Tally()
        self._client = client
        self._journal = journal
        self._options = options
        self._progress = progress

    def collect(self, watch: Watch) -> None:
        """Wait for one or more jobs and take in their outcomes."""
        while not (ended := watch.any_of(self.in_flight, QUIET_S)):
            require_worker(self._client, self._options.worker_wait_s)
            self._progress(self.tally)
        for job_id, outcome in ended.items():
            self._take(self.in_flight.pop(job_id), outcome)
            self._client.forget(job_id)
        self._progress(self.tally)

    def _take(self, job: jobs.Job, ended: jobs.Ended) -> None:
        tally = self.tally
        if isinstance(ended, jobs.JobResult):
            self._journal.add_result(ended)
            tally.pairs += job.pairs
            tally.queries += len(job.requests)
            tally.truncated += ended.provenance.truncated
            tally.models[ended.provenance.model] += len(job.requests)
            return
        if isinstance(ended, RerankError):
            ended = jobs.Failure.of(job.id, ended, attempts=0)
        self._journal.add_failure([each.query_id or "" for each in job.requests], ended)
        tally.failed_pairs += job.pairs
        tally.failed_queries += len(job.requests)
        tally.codes[ended.code] += len(job.requests)
        tally.first_failure = tally.first_failure or ended.message

    def give_up(self) -> None:
        """Cancel what is in flight, as far as Redis still answers."""
        with suppress(RerankError):
            for job_id in self.in_flight:
                self._client.cancel(job_id)
                self._client.forget(job_id)
