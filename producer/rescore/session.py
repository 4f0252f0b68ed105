"""Run one start of `rescore`: open the journal, and score the queries that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from contract.errors import InvalidInput
from producer.client.columns import ColumnsClient
from producer.client.waiting import require_worker
from producer.files.streams import is_stream
from producer.rescore import runner
from producer.rescore.journal import Journal
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.options import Options, RetryKind
from producer.rescore.progress import Progress
from producer.rescore.resume import ResumableJournal
from producer.rescore.run_registration import registered
from producer.rescore.staging import Staging
from producer.score_cache.cache import ScoreCache

#: Shows the progress of one round, starting from the earlier progress.
ShowProgress = Callable[[Progress], AbstractContextManager[Callable[[Progress], object]]]


def check_resumption(output: str | None, restart: bool, retry: Collection[RetryKind]) -> None:
    """Raise `InvalidInput` if the options contradict each other, or the output is a stream."""
    if restart and retry:
        raise InvalidInput(
            "--restart cannot be combined with --retry-failed or --rescore-downgraded"
        )
    if (restart or retry) and output and is_stream(output):
        raise InvalidInput(
            f"--output {output} is not a regular file; --restart, --retry-failed and"
            " --rescore-downgraded require one"
        )


def open_journal(
    output: str,
    staging: Staging,
    options: Options,
    depth: int | None,
    *,
    restart: bool,
    mode: int,
) -> Journal:
    """Return the journal of an output, including the results of earlier starts."""
    if is_stream(output):
        return Journal(output, staging, mode)
    settings = ScoringSettings(
        model=options.model,
        depth=depth,
        top_k=options.top_k,
        allow_downgrade=options.allow_downgrade,
        shard=str(staging.shard) if staging.shard else None,
        passages=options.passages.key if options.passages else None,
    )
    wanted = Manifest.new(staging.inputs(), settings, options.first_pairs_per_job)
    return ResumableJournal(output, staging, wanted, restart=restart, mode=mode)


def score(
    client: ColumnsClient,
    journal: Journal,
    options: Options,
    retry: Collection[RetryKind],
    show_progress: ShowProgress,
    notify: Callable[[str], object],
    cache: ScoreCache | None = None,
) -> tuple[Progress, int]:
    """Score the queries that the journal lacks, then the retried ones.

    Return the progress, and the number of pairs of this start. Raises the errors of
    `runner.rescore`.
    """
    progress, scored_pairs = journal.progress(), 0
    cached_pairs = missed_pairs = 0
    for _ in journal.rounds(retry):
        children = require_worker(client, options.worker_wait_s, notify)
        earlier = journal.progress()
        with (
            show_progress(earlier) as show,
            registered(client, journal, options.run_pairs, earlier, show) as report_progress,
        ):
            progress = runner.rescore(
                client, journal, options, report_progress, notify, children=children, cache=cache
            )
        scored_pairs += progress.pairs - earlier.pairs
        cached_pairs += progress.cached_pairs
        missed_pairs += progress.missed_pairs
    progress.cached_pairs, progress.missed_pairs = cached_pairs, missed_pairs
    return progress, scored_pairs
