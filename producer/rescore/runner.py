"""Re-scores a staged collection through the queue, a window of jobs at a time.

Memory does not grow with the number of queries: requests are made as they are sent, results are
appended to the journal as they arrive and then removed from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contract import jobs, names
from producer.client import preparing
from producer.client.blocking import RerankClient
from producer.rescore.journal import Journal
from producer.rescore.progress import Tally
from producer.rescore.staging import Staging
from producer.rescore.window import Window

#: Pairs of a job, at most and at least: with more, workers wait for the last one's end; with fewer,
#: a job's way through the queue shows beside its scoring.
MOST_PAIRS, LEAST_PAIRS = 1_000, 100
#: Jobs of a small run: enough to keep some workers busy to the end.
JOBS = 32


@dataclass(frozen=True)
class Options:
    """How to re-score."""

    model: str | None = None
    top_k: int | None = None
    #: Whether a smaller model may score what does not fit this one's memory or time.
    allow_downgrade: bool = True
    #: Jobs in flight.
    window: int = 8
    pairs_per_job: int = MOST_PAIRS
    priority: int = names.PRIORITY_BULK
    #: How long to wait for a worker that answers, at the start and whenever all is quiet.
    worker_wait_s: float = 15.0
    #: How long to wait for a Redis that went away.
    redis_wait_s: float = 60.0
    #: How long to go on while no job is accepted and none ends, though Redis and a worker answer.
    max_wait_s: float = 1_800.0


def job_size(pairs: int) -> int:
    """Pairs of each job of a run of so many pairs, unless told."""
    return min(MOST_PAIRS, max(LEAST_PAIRS, pairs // JOBS))


def rescore(
    client: RerankClient,
    staging: Staging,
    journal: Journal,
    options: Options,
    progress: Callable[[Tally], object],
    say: Callable[[str], object] = lambda _: None,
) -> Tally:
    """Score what is staged and not yet in the journal; `progress` is called after each job.

    A job that fails is noted in the journal, and the others go on; `say` is told why a wait lasts.
    Raises `NoWorker`, `RedisUnavailable`, `Overloaded` or `ResultTimeout` when a wait has reached
    its bound, `InvalidInput`, or `RerankError` if the workers' model has changed. Jobs in flight
    are then cancelled, unless the journal is resumable: they are taken up next time.
    """
    journal.begin()
    window = Window(client, journal, options, progress, say)
    try:
        for job in _jobs(client, staging, journal, options):
            window.add(job)
        window.finish()
    except BaseException:
        if not journal.resumable:
            window.cancel_all()
        raise
    finally:
        window.close()
    # A query that was scored twice counts once.
    return journal.tally() if journal.resumable else window.tally


def _jobs(
    client: RerankClient, staging: Staging, journal: Journal, options: Options
) -> Iterator[jobs.Job]:
    """The same jobs whenever a run is taken up, without those whose queries have all ended."""
    limits = client.settings
    groups = preparing.pack(
        staging.requests(options.top_k, redo=journal.redoes),
        max_pairs=min(options.pairs_per_job, limits.max_pairs_per_job),
        max_bytes=limits.max_bytes_per_job,
    )
    for group in groups:
        query_ids = [each.query_id or "" for each in group]
        if not journal.have_ended(query_ids):
            yield preparing.job(
                group,
                limits,
                model=options.model,
                job_id=journal.job_id(query_ids),
                allow_downgrade=options.allow_downgrade,
            )
