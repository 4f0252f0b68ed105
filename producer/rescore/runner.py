"""Re-score a staged collection through the queue, with a bounded number of jobs in flight.

Memory does not grow with the number of queries. Requests are made as they are sent. Results are
appended to the journal as they arrive, and then removed from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from contract import jobs
from contract.columns import JobColumns
from producer.client.columns import ColumnsClient
from producer.rescore import packing
from producer.rescore.in_flight import JobsInFlight
from producer.rescore.job_sizes import JobSizes
from producer.rescore.journal import Journal
from producer.rescore.options import Options
from producer.rescore.progress import Progress
from producer.rescore.sender import Task
from producer.rescore.senders import Senders
from producer.rescore.window import Window


def rescore(
    client: ColumnsClient,
    journal: Journal,
    options: Options,
    report_progress: Callable[[Progress], object],
    notify: Callable[[str], object] = lambda _: None,
    *,
    children: int = 0,
) -> Progress:
    """Score the staged queries that are not in the journal; call `report_progress` after each job.

    A failed job is recorded in the journal, and the others continue. `notify` receives the reason
    for a long wait. Raises `NoWorker`, `RedisUnavailable`, `Overloaded` or `ResultTimeout` after
    the limit of a wait, `InvalidInput`, or `RerankError` if the workers' model has changed. Jobs in
    flight are then cancelled, unless the journal is resumable: a resumed run collects them.
    """
    journal.begin()
    with Window.of(client, options.window, children) as window:
        sizes = JobSizes(journal, options, client.settings.max_pairs_per_job, window)

        def report(progress: Progress) -> None:
            progress.window, progress.pairs_per_job = window.jobs, sizes.pairs
            report_progress(progress)

        made = _jobs(client, journal, options, sizes)
        if options.processes > 1:
            task = Task(
                client.settings, options, min(options.processes, window.jobs), journal.resumable
            )
            with Senders(task, journal, window, sizes, report, notify) as senders:
                senders.send_all(made)
                progress = senders.progress
        else:
            in_flight = JobsInFlight(
                client, journal, options, window, sizes.observe, report, notify
            )
            in_flight.send_all(made)
            progress = in_flight.progress
    # The journal's progress counts a query that was scored twice only once.
    return journal.progress() if journal.resumable else progress


def _jobs(
    client: ColumnsClient, journal: Journal, options: Options, sizes: JobSizes
) -> Iterator[jobs.Job | JobColumns]:
    """Yield the jobs of a round that are not done; their ids are the same at each start."""
    limits = client.settings
    groups = packing.pack(
        journal.staged_queries(),
        max_pairs=sizes.next,
        max_bytes=limits.max_bytes_per_job,
    )
    for group in groups:
        query_ids = [each.id for each in group]
        if not journal.are_done(query_ids):
            sizes.sending()
            yield packing.job(
                group,
                limits,
                model=options.model,
                job_id=journal.job_id(query_ids),
                allow_downgrade=options.allow_downgrade,
                top_k=options.top_k,
            )
