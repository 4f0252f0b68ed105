"""Print what was read and scored, and the progress, for the commands that score a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich import progress as rich_progress
from rich.console import Console

from contract.passages import Passages
from contract.printable import counted, visible
from producer.cli import terminal
from producer.formats.records import InvalidLines
from producer.rescore.loading import LoadReport
from producer.rescore.progress import Progress
from producer.rescore.shards import Shard
from producer.rescore.staging import Counts

#: Without a terminal, the shortest interval between two lines of progress.
LINE_EVERY_S = 10.0
#: A hint is given if at least this share of the pairs was truncated, and lost this share of tokens.
MANY_PAIRS, MANY_TOKENS = 0.01, 0.1


def print_input(
    counts: Counts, found: LoadReport, bad: InvalidLines, shard: Shard | None = None
) -> None:
    terminal.print_notice(
        f"{f'{shard.words}: ' if shard else ''}{counted(counts.queries, 'query', 'queries')},"
        f" {counted(counts.pairs, 'pair')}, {counted(counts.documents, 'document')}"
    )
    if shard and not counts.queries:
        terminal.print_notice("no query of the run is in this shard, so its output will be empty")
    unused = (
        (found.other_queries, "query", "queries"),
        (found.documents - counts.documents, "document", "documents"),
    )
    if ignored := [counted(number, *nouns) for number, *nouns in unused if number > 0]:
        terminal.print_notice(
            f"ignored {' and '.join(ignored)} that {'this shard' if shard else 'the run'} does not"
            " use"
        )
    if found.emptied_queries:
        left_out = counted(found.emptied_queries, "query", "queries")
        terminal.print_notice(f"left out {left_out} with no document in the corpus")
    if found.contradictions:
        terminal.print_notice(
            f"ranks contradict scores in {counted(found.contradictions, 'line')} of the run (first:"
            f" {found.first_contradiction}); the scores are used"
        )
    if bad.count:
        terminal.print_notice(f"skipped {counted(bad.count, 'invalid line')}, for example:")
        for example in bad.examples:
            terminal.print_notice(f"  {example}")


def print_scored(
    progress: Progress, seconds: float, earlier_pairs: int = 0, *, with_cache: bool = False
) -> None:
    """Print the pairs that were scored, truncated or failed, with models and speed."""
    models = ", ".join(
        f"{model} ({counted(count, 'query', 'queries')})"
        for model, count in progress.models.items()
    )
    pairs = progress.pairs - earlier_pairs - progress.cached_pairs
    rate = pairs / seconds if seconds else 0.0
    terminal.print_notice(
        f"scored {counted(pairs, 'pair')} in {seconds:.1f} s ({rate:,.0f} pairs/s)"
        f"{f' by {models}' if models else ''}"
    )
    if with_cache:
        terminal.print_notice(
            f"cache: {counted(progress.cached_pairs, 'score')} found,"
            f" {progress.missed_pairs:,} not found"
        )
    if earlier_pairs:
        terminal.print_notice(f"{counted(earlier_pairs, 'pair')} scored earlier")
    print_failed(progress)


def print_failed(progress: Progress) -> None:
    """Print how many queries failed, and why."""
    if progress.failed_queries:
        codes = ", ".join(f"{code} ({count:,})" for code, count in progress.codes.items())
        terminal.print_notice(
            f"{counted(progress.failed_queries, 'query', 'queries')} failed: {codes};"
            f" first failure: {progress.first_failure}"
        )


def print_unread(progress: Progress, max_length: int, passages: Passages | None) -> None:
    """Print how much of the documents was not read, and what helps."""
    lost = f"about {counted(progress.lost_tokens, 'token')}"
    if progress.truncated and passages is not None:
        terminal.print_notice(
            f"{counted(progress.truncated, 'pair')} with text that no passage has, or that the"
            f" model's maximum length has cut: {lost} were not read"
        )
    elif progress.truncated:
        read = max(1, progress.truncated * max_length)
        share = progress.lost_tokens / (progress.lost_tokens + read)
        how_much = f": {lost}, {share:.0%} of them, were not read" if progress.lost_tokens else ""
        many = share >= MANY_TOKENS and progress.truncated >= MANY_PAIRS * progress.pairs
        hint = "; rescore --passages TOKENS reads long documents in full" if many else ""
        terminal.print_notice(
            f"truncated {counted(progress.truncated, 'pair')} to the model's maximum length"
            f"{how_much}{hint}"
        )
    if progress.shortened and passages is not None:
        terminal.print_notice(
            f"cut {counted(progress.shortened, 'document')} into passages of less than"
            f" {counted(passages.tokens, 'token')}, to leave room for the query within the model's"
            f" {counted(max_length, 'token')}"
        )


@contextmanager
def show_progress(
    console: Console,
    pairs: int,
    earlier: Progress,
    label: str | None = None,
    later_s: float | None = None,
) -> Iterator[Callable[[Progress], None]]:
    """Show progress after a `label`: a bar on a terminal, and occasional lines elsewhere.

    Pairs that were scored `earlier` count as done, but not for the speed. What follows takes
    `later_s` seconds.
    """
    if not terminal.is_terminal(sys.stderr):
        yield _Lines(pairs, label, earlier.pairs, later_s).report
        return
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} pairs"),
        rich_progress.TextColumn("{task.fields[rate]:,.0f} pairs/s"),
        rich_progress.TextColumn("{task.fields[in_flight]}"),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn(
            _later(None if later_s is None else timedelta(seconds=round(later_s)))
        ),
        console=console,
    )
    began = time.monotonic()
    with bar:
        task = bar.add_task(
            visible(label or "re-scoring"),
            total=pairs,
            completed=earlier.done_pairs,
            rate=0.0,
            in_flight="",
        )

        def report(progress: Progress) -> None:
            rate = (progress.pairs - earlier.pairs) / (time.monotonic() - began)
            bar.update(
                task, completed=progress.done_pairs, rate=rate, in_flight=_in_flight(progress)
            )

        yield report


def _later(time_: object, before: str = "") -> str:
    """Return how long what follows takes, to be shown after the time that is left."""
    return "" if time_ is None else f"{before}+ about {time_}"


def _in_flight(progress: Progress) -> str:
    """Return the limits of jobs in flight and of their pairs, e.g. "16 x 1,000 in flight"."""
    if not progress.window:
        return ""  # there is no queue
    return f"{progress.window:,} x {progress.pairs_per_job:,} in flight"


class _Lines:
    """Progress without a terminal: a line at most every `LINE_EVERY_S` seconds."""

    def __init__(
        self, pairs: int, label: str | None, earlier_pairs: int, later_s: float | None
    ) -> None:
        self._pairs = pairs
        self._earlier_pairs = earlier_pairs
        self._label = f"{label}: " if label else ""
        self._later = _later(None if later_s is None else f"{later_s:,.0f} s", " ")
        self._began = self._last = time.monotonic()

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        rate = (progress.pairs - self._earlier_pairs) / (now - self._began)
        left = (
            f", {(self._pairs - progress.done_pairs) / rate:,.0f} s{self._later} left"
            if rate
            else ""
        )
        terminal.print_notice(
            f"{self._label}{progress.done_pairs:,}/{self._pairs:,} pairs, {rate:,.0f} pairs/s{left}"
            f"{', ' if progress.window else ''}{_in_flight(progress)}"
        )
