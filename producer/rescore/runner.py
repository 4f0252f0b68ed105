"""Re-score a staged collection through the queue, with a bounded number of jobs in flight.

Memory does not grow with the number of queries. Requests are made as they are sent. Results are
appended to the journal as they arrive, and then removed from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from contract import jobs
from contract.columns import JobColumns
from producer.client.columns import ColumnsClient
from producer.rescore import loaded_identity, packing
from producer.rescore.cached_queries import CachedQueries
from producer.rescore.in_flight import JobsInFlight
from producer.rescore.job_sizes import JobSizes
from producer.rescore.journal import Journal
from producer.rescore.loaded_identity import LoadedModel
from producer.rescore.options import Options
from producer.rescore.outcomes import AppendableJournal, OutcomeRecorder
from producer.rescore.progress import Progress
from producer.rescore.sender import Task
from producer.rescore.senders import Senders
from producer.rescore.staged_query import StagedQuery
from producer.rescore.window import Window
from producer.score_cache.cache import ScoreCache


def rescore(
    client: ColumnsClient,
    journal: Journal,
    options: Options,
    report_progress: Callable[[Progress], object],
    notify: Callable[[str], object] = lambda _: None,
    *,
    children: int = 0,
    cache: ScoreCache | None = None,
) -> Progress:
    """Score the staged queries that are not in the journal; call `report_progress` after each job.

    A failed job is recorded in the journal, and the others continue. `notify` receives the reason
    for a long wait. Raises `NoWorker`, `RedisUnavailable`, `Overloaded` or `ResultTimeout` after
    the limit of a wait, `InvalidInput`, or `RerankError` if the workers' model has changed. Jobs in
    flight are then cancelled, unless the journal is resumable: a resumed run collects them.

    Scores that `cache` has are not computed again, and it receives the others: see
    `producer.rescore.cached_queries`. Raises `CacheUnusable` if it is damaged.
    """
    journal.begin()
    with Window.of(client, options.window, children) as window:
        sizes = JobSizes(journal, options, client.settings.max_pairs_per_job, window)

        def report(progress: Progress) -> None:
            progress.window, progress.pairs_per_job = window.jobs, sizes.pairs
            report_progress(progress)

        sending = _Sending(client, options, window, sizes, report, notify)
        if cache is not None:
            return _rescore_with_cache(sending, journal, cache)
        groups = (
            group
            for group in sending.pack(journal.staged_queries(), sizes.next)
            if not journal.are_done([each.id for each in group])
        )
        made = sending.make_jobs(
            groups, lambda group: journal.job_id(_what_is_in(group)), options.top_k
        )
        progress = sending.send_all(journal, made)
    # The journal's progress counts a query that was scored twice only once.
    return journal.progress() if journal.resumable else progress


@dataclass(frozen=True)
class _Sending:
    """The way in which the jobs of a round are sent: by this process, or by several."""

    client: ColumnsClient
    options: Options
    window: Window
    sizes: JobSizes
    report_progress: Callable[[Progress], object]
    notify: Callable[[str], object]

    def pack(
        self, queries: Iterable[StagedQuery], max_pairs: Callable[[int], int]
    ) -> Iterator[list[StagedQuery]]:
        """Group queries into jobs; `max_pairs` returns the limit by the place of a query."""
        max_bytes = self.client.settings.max_bytes_per_job
        passages = self.options.passages
        return packing.pack(queries, max_pairs=max_pairs, max_bytes=max_bytes, passages=passages)

    def make_jobs(
        self,
        groups: Iterable[list[StagedQuery]],
        job_id: Callable[[list[StagedQuery]], str],
        top_k: int | None,
    ) -> Iterator[jobs.Job | JobColumns]:
        """Yield the job of each group; `job_id` returns the same id at each start of a run."""
        for group in groups:
            self.sizes.sending()
            yield packing.job(
                group,
                self.client.settings,
                model=self.options.model,
                job_id=job_id(group),
                allow_downgrade=self.options.allow_downgrade,
                top_k=top_k,
                passages=self.options.passages,
            )

    def send_all(
        self,
        journal: AppendableJournal,
        made: Iterator[jobs.Job | JobColumns],
        *,
        with_results: bool = False,
    ) -> Progress:
        """Send all jobs, wait for them, and return the progress.

        With several processes, the journal receives results only if it asks for them.
        """
        if self.options.processes == 1:
            in_flight = JobsInFlight(
                self.client,
                journal,
                self.options,
                self.window,
                self.sizes.observe,
                self.report_progress,
                self.notify,
            )
            in_flight.send_all(made)
            return in_flight.progress
        processes = min(self.options.processes, self.window.jobs)
        task = Task(self.client.settings, self.options, processes, journal.resumable, with_results)
        with Senders(
            task, journal, self.window, self.sizes, self.report_progress, self.notify
        ) as senders:
            senders.send_all(made)
            return senders.progress


def _what_is_in(group: Sequence[StagedQuery]) -> list[str]:
    """Return what the id of a group's job depends on."""
    selected = [each.selected for each in group if each.selected is not None]
    return [*(each.id for each in group), *selected]


def _rescore_with_cache(sending: _Sending, journal: Journal, cache: ScoreCache) -> Progress:
    """Score the pairs that the cache lacks, until all queries are done."""
    client, options = sending.client, sending.options
    cached = CachedQueries(
        journal, cache, options.top_k, sending.notify, has_passages=options.passages is not None
    )
    if (first := next(journal.staged_queries(), None)) is not None:
        loaded = loaded_identity.find(client, cache, options, first, sending.notify)
        # After another start with another model, the first result explains how to continue.
        if loaded is not None and not _differs(journal, options, loaded):
            cached.loaded = loaded

    def report(progress: Progress) -> None:
        sending.report_progress(cached.with_taken(progress))

    reporting = replace(sending, report_progress=report)
    try:
        while True:
            groups = reporting.pack(cached.queries(), lambda _: reporting.sizes.next(cached.place))
            made = reporting.make_jobs(groups, cached.job_id, top_k=None)  # all scores are kept
            reporting.send_all(cached, made, with_results=True)
            if not cached.begin_whole_queries():
                break
    finally:
        cached.count(client)
    progress = journal.progress()
    progress.cached_pairs, progress.missed_pairs = cached.hits, cached.misses
    return progress


def _differs(journal: Journal, options: Options, loaded: LoadedModel) -> bool:
    """Return whether the run has results of another model or other settings."""
    source = loaded.identity.provenance(loaded.requested, pairs=0)
    return OutcomeRecorder(journal).find_mismatch("", options.model, source) is not None
