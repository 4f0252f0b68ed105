"""Score the passes of a run, with progress and a report of each."""

from __future__ import annotations

import time
from functools import partial

from contract.settings import Settings
from producer.cli import run_report, terminal
from producer.client.columns import ColumnsClient
from producer.client.waiting import require_worker
from producer.rescore import large_model, session
from producer.rescore.cascade import CascadeRun
from producer.rescore.options import RetryKind
from producer.rescore.progress import Progress
from producer.rescore.session import Pass, Run
from producer.score_cache.cache import ScoreCache


def score(
    settings: Settings,
    run: Run,
    retry: tuple[RetryKind, ...],
    cache: ScoreCache | None,
    group: str | None,
) -> Progress:
    """Score the remaining pairs of each pass; return the progress of the last one.

    Without the name of a group, the run has its own turns.
    """
    with ColumnsClient(settings.model_copy(update={"group": group})) as client:
        if not isinstance(run.finished, CascadeRun):
            return _score_pass(client, run.passes[0], retry, cache)
        first, second = run.passes
        later_s = _try_large_model(client, run.finished, first, second, cache)
        _score_pass(client, first, retry, cache, later_s)
        progress = _score_pass(client, second, retry, cache)
        progress.downgraded_queries = second.journal.downgraded_with(first.journal)
        return progress


def _try_large_model(
    client: ColumnsClient, run: CascadeRun, first: Pass, second: Pass, cache: ScoreCache | None
) -> float | None:
    """Return how many seconds the second pass will take, if that is known."""
    if not first.journal.pending:
        return None
    options = second.options
    children = require_worker(client, options.worker_wait_s, terminal.print_notice)
    large_model.check_is_another(client, run.cascade, options)
    query = next(first.journal.staged_queries(), None)
    # With cached scores, a run may need no model at all.
    if query is None or (cache is not None and not cache.is_empty):
        return None
    pairs_per_s = large_model.pairs_per_s(client, options, query, children)
    return second.pairs / pairs_per_s if pairs_per_s else None


def _score_pass(
    client: ColumnsClient,
    one: Pass,
    retry: tuple[RetryKind, ...],
    cache: ScoreCache | None,
    later_s: float | None = None,
) -> Progress:
    """Score the remaining pairs of a pass, and print a report; another one takes `later_s`."""
    journal = one.journal
    if journal.resumed:
        pending, total = journal.pending, journal.queries
        name = f"{one.label}: " if one.label else ""
        terminal.print_notice(f"{name}resuming: {total - pending:,} of {total:,} queries are done")
    began = time.monotonic()
    show_progress = partial(
        run_report.show_progress,
        terminal.console(err=True),
        one.pairs,
        label=one.label,
        later_s=later_s,
    )
    progress, scored_pairs = session.score(
        client, one, retry, show_progress, terminal.print_notice, cache
    )
    seconds = time.monotonic() - began
    run_report.print_scored(
        progress, seconds, progress.pairs - scored_pairs, with_cache=cache is not None
    )
    longest = max(journal.max_lengths.values(), default=0)
    run_report.print_unread(progress, longest, one.options.passages)
    return progress
