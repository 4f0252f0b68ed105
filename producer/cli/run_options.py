"""What the commands that score a run share: its options, reading it, progress, what was done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich import progress as rich_progress
from rich.console import Console

from contract import errors
from contract.printable import visible
from producer.cli import common, terminal
from producer.files import conflicts, reading
from producer.formats.records import InvalidLines
from producer.rescore.loading import LoadReport
from producer.rescore.options import LEAST_PAIRS, MOST_PAIRS, Options
from producer.rescore.progress import Progress
from producer.rescore.staging import Counts, Staging

#: Off a terminal, a line at most this often.
LINE_EVERY_S = 10.0

Command = TypeVar("Command", bound=Callable[..., Any])


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; `--help` lists them in this order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


#: Where the run comes from; `check_files` says what goes together.
file_options = options(
    common.option("--corpus", metavar="FILE", help='Documents: BEIR JSONL, or "id<TAB>text".'),
    common.option("--queries", metavar="FILE", help='Queries: BEIR JSONL, or "id<TAB>text".'),
    common.option("--run", metavar="FILE", help="First-stage run, in TREC format."),
    common.option(
        "--input",
        "requests",
        metavar="FILE",
        help="In place of these three: JSONL with a query and its candidates in each line.",
    ),
)
depth_option = common.option(
    "--depth", type=common.Count(), metavar="N", help="Rerank the best N. [default: all]"
)
#: How the run is read and sent.
work_options = options(
    common.option(
        "--window",
        type=common.Count(maximum=10_000),
        default=8,
        metavar="JOBS",
        help="Jobs in flight.",
    ),
    common.option(
        "--pairs-per-job",
        type=common.Count(),
        metavar="N",
        help=f"Job size. [default: {LEAST_PAIRS} to {MOST_PAIRS}, as the run is long]",
    ),
    common.option("--skip-invalid", is_flag=True, help="Skip and count bad lines; do not stop."),
    common.option(
        "--worker-wait",
        type=common.Seconds(),
        default=Options.worker_wait_s,
        metavar="SECONDS",
        help="Give up if no worker answers for so long.",
    ),
    common.option(
        "--max-wait",
        type=common.Seconds(),
        default=Options.max_wait_s,
        metavar="SECONDS",
        help="Give up if no job is accepted and none ends for so long.",
    ),
)


def check_files(
    corpus: str | None,
    queries: str | None,
    run: str | None,
    requests: str | None,
    qrels: str | None,
) -> tuple[str, ...]:
    """The input files: a run with its queries and corpus, or request lines.

    Raises `InvalidInput` if they do not go together.
    """
    if requests and (corpus or queries or run):
        raise errors.InvalidInput("give --input, or --corpus, --queries and --run; not both")
    if not requests and not (corpus and queries and run):
        raise errors.InvalidInput("give --corpus, --queries and --run, or --input")
    inputs = (requests,) if requests else (run, queries, corpus)
    given = tuple(each for each in inputs if each is not None)
    if (*given, qrels).count(reading.STDIN) > 1:
        raise errors.InvalidInput("only one file can be standard input (-)")
    return given


def reads(
    corpus: str | None,
    queries: str | None,
    run: str | None,
    requests: str | None,
    qrels: str | None,
) -> list[conflicts.FileUse]:
    """Return what is read; raise `InvalidInput` if what is printed would go there."""
    options = {
        "--corpus": corpus,
        "--queries": queries,
        "--run": run,
        "--input": requests,
        "--qrels": qrels,
    }
    uses = [use for option, name in options.items() for use in conflicts.input_uses(option, name)]
    conflicts.check(uses, [conflicts.FileUse("standard error", "", 2)])
    return uses


def load(staging: Staging, files: tuple[str, ...], qrels: str | None, bad: InvalidLines) -> Counts:
    """Load the files, and say what is in them. Raises `InvalidInput`."""
    if len(files) == 1:
        staging.load_requests(files[0])
    else:
        run, queries, corpus = files
        staging.load_run(run, queries, corpus)
    if qrels:
        staging.load_qrels(qrels)
    counts = staging.counts()
    _report_input(counts, staging.load_report, bad)
    return counts


def _report_input(counts: Counts, found: LoadReport, bad: InvalidLines) -> None:
    terminal.print_notice(
        f"{counts.queries:,} queries, {counts.pairs:,} pairs, {counts.documents:,} documents"
    )
    unused = max(0, found.documents - counts.documents)
    if unused or found.other_queries:
        terminal.print_notice(
            f"not needed for them: {found.other_queries:,} queries and {unused:,} documents of the"
            " files"
        )
    if found.contradictions:
        terminal.print_notice(
            f"the ranks of the run contradict its scores in {found.contradictions:,} lines"
            f" ({found.first_contradiction} is the first): the scores give the order"
        )
    if bad.count:
        terminal.print_notice(f"skipped {bad.count:,} invalid lines, the first of them:")
        for example in bad.examples:
            terminal.print_notice(f"  {example}")


def report_scored(progress: Progress, seconds: float, earlier_pairs: int = 0) -> None:
    """Say what was scored, by which model, how fast, and what was cut or failed."""
    models = ", ".join(f"{model} ({count:,} queries)" for model, count in progress.models.items())
    pairs = progress.pairs - earlier_pairs
    rate = pairs / seconds if seconds else 0.0
    earlier = f", {earlier_pairs:,} pairs earlier," if earlier_pairs else ""
    terminal.print_notice(
        f"scored {pairs:,} pairs in {seconds:.1f} s ({rate:,.0f} pairs/s){earlier}"
        f" by {models or '-'}"
    )
    if progress.truncated:
        terminal.print_notice(
            f"cut, because longer than the model reads: {progress.truncated:,} pairs"
        )
    if progress.failed_queries:
        codes = ", ".join(f"{code} ({count:,})" for code, count in progress.codes.items())
        terminal.print_notice(
            f"{progress.failed_queries:,} queries failed: {codes}. The first:"
            f" {progress.first_failure}"
        )


@contextmanager
def show_progress(
    console: Console, pairs: int, label: str | None = None, earlier: Progress | None = None
) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a plain line now and then elsewhere; `label` tells it from others.

    What was done `earlier` counts as done, and not as speed.
    """
    earlier = earlier or Progress()
    if not terminal.is_terminal(sys.stderr):
        yield _Lines(pairs, label, earlier.pairs).report
        return
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} pairs"),
        rich_progress.TextColumn("{task.fields[rate]:,.0f} pairs/s"),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        console=console,
    )
    began = time.monotonic()
    with bar:
        task = bar.add_task(
            visible(label or "re-scoring"), total=pairs, completed=earlier.done_pairs, rate=0.0
        )

        def report(progress: Progress) -> None:
            rate = (progress.pairs - earlier.pairs) / (time.monotonic() - began)
            bar.update(task, completed=progress.done_pairs, rate=rate)

        yield report


class _Lines:
    """Progress where nobody watches: a line at most every `LINE_EVERY_S` seconds."""

    def __init__(self, pairs: int, label: str | None, earlier_pairs: int) -> None:
        self._pairs = pairs
        self._earlier_pairs = earlier_pairs
        self._label = f"{label}: " if label else ""
        self._began = self._last = time.monotonic()

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        rate = (progress.pairs - self._earlier_pairs) / (now - self._began)
        left = f", {(self._pairs - progress.done_pairs) / rate:,.0f} s left" if rate else ""
        terminal.print_notice(
            f"{self._label}{progress.done_pairs:,}/{self._pairs:,} pairs, {rate:,.0f} pairs/s{left}"
        )
