"""`rerankq rescore`: a first-stage run goes in, a reranked run comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from contract import errors
from contract.settings import Settings
from producer import formats, measures
from producer import rescore as rescoring
from producer.cli import common
from producer.client import RerankClient
from producer.journal import STDOUT, Journal, check_writable
from producer.staging import Counts, Staging

#: Off a terminal, a line at most this often.
LINE_EVERY_S = 10.0


@click.command(epilog=common.EPILOG)
@common.option("--corpus", metavar="FILE", help='Documents: BEIR JSONL, or "id<TAB>text".')
@common.option("--queries", metavar="FILE", help='Queries: BEIR JSONL, or "id<TAB>text".')
@common.option("--run", metavar="FILE", help="First-stage run, in TREC format.")
@common.option(
    "--input",
    "requests",
    metavar="FILE",
    help="In place of these three: JSONL with a query and its candidates in each line.",
)
@common.option("--output", metavar="FILE", help="The reranked run, in TREC format.")
@common.option("--results", metavar="FILE", help="Also as JSONL, with scores and provenance.")
@common.option(
    "--qrels", metavar="FILE", help="Judgments (BEIR or TREC): measure before and after."
)
@common.option("--model", metavar="M", help="Another model than the worker's own.")
@common.option(
    "--depth", type=click.IntRange(min=1), metavar="N", help="Rerank the best N. [default: all]"
)
@common.option(
    "--top-k", type=click.IntRange(min=1), metavar="K", help="Write the best K. [default: all]"
)
@common.option(
    "--window", type=click.IntRange(min=1), default=8, metavar="JOBS", help="Jobs in flight."
)
@common.option(
    "--pairs-per-job", type=click.IntRange(min=1), default=1_000, metavar="N", help="Job size."
)
@common.option("--skip-invalid", is_flag=True, help="Skip and count bad lines; do not stop.")
@common.option("--dry-run", is_flag=True, help="Read and check everything; send nothing.")
@click.pass_obj
def rescore(
    settings: Settings,
    corpus: str | None,
    queries: str | None,
    run: str | None,
    requests: str | None,
    output: str | None,
    results: str | None,
    qrels: str | None,
    model: str | None,
    depth: int | None,
    top_k: int | None,
    window: int,
    pairs_per_job: int,
    skip_invalid: bool,
    dry_run: bool,
) -> None:
    """Re-score a first-stage run: a run goes in, a reranked run comes out.

    Files may be gzipped; - is standard input (one of them) or standard output. What is wrong with
    them is found before anything is sent. Results are appended to OUTPUT.partial.jsonl as they
    arrive; OUTPUT appears when all is done.
    """
    inputs = _check_usage(corpus, queries, run, requests, output, results, dry_run)
    bad = formats.BadLines(skip=skip_invalid)
    if qrels:
        measures.require()
    with Staging(settings, bad, depth) as staging:
        _load(staging, inputs, qrels)
        counts = staging.counts()
        _report_input(counts, bad)
        if dry_run or output is None:
            return
        options = rescoring.Options(
            model=model, top_k=top_k, window=window, pairs_per_job=pairs_per_job
        )
        tally = _rescore(settings, staging, counts, options, output, results, measured=bool(qrels))
    if tally.failed_queries:
        raise SystemExit(common.EXIT_PARTIAL if tally.queries else common.EXIT_FAILED)


def _rescore(
    settings: Settings,
    staging: Staging,
    counts: Counts,
    options: rescoring.Options,
    output: str,
    results: str | None,
    *,
    measured: bool,
) -> rescoring.Tally:
    console = Console(stderr=True)
    with RerankClient(settings) as client:
        rescoring.require_worker(client, options.worker_wait_s)
        with Journal(output, staging) as journal:
            began = time.monotonic()
            try:
                with _progress(console, counts.pairs) as report:
                    tally = rescoring.rescore(client, staging, journal, options, report)
            except BaseException:
                journal.keep(_say)
                raise
            _finish(journal, tally, time.monotonic() - began, output, results)
            if measured and tally.queries:
                _show_measures(console, measures.measure(staging, journal))
    return tally


def _check_usage(
    corpus: str | None,
    queries: str | None,
    run: str | None,
    requests: str | None,
    output: str | None,
    results: str | None,
    dry_run: bool,
) -> tuple[str, ...]:
    """The input files: a run with its queries and corpus, or request lines."""
    if requests and (corpus or queries or run):
        raise errors.InvalidInput("give --input, or --corpus, --queries and --run; not both")
    if not requests and not (corpus and queries and run):
        raise errors.InvalidInput("give --corpus, --queries and --run, or --input")
    inputs = (requests,) if requests else (run, queries, corpus)
    given = tuple(each for each in inputs if each is not None)
    if given.count(formats.STDIN) > 1:
        raise errors.InvalidInput("only one file can be standard input (-)")
    if not output and not dry_run:
        raise errors.InvalidInput("give --output")
    outputs = [each for each in (output, results) if each]
    if len(set(outputs)) < len(outputs):
        raise errors.InvalidInput(f"--output and --results are both {output}")
    for each in outputs:
        check_writable(each)
        if each != STDOUT and each in given:
            raise errors.InvalidInput(f"{each} is both input and output")
    return given


def _load(staging: Staging, inputs: tuple[str, ...], qrels: str | None) -> None:
    if len(inputs) == 1:
        staging.load_requests(inputs[0])
    else:
        run, queries, corpus = inputs
        staging.load_run(run, queries, corpus)
    if qrels:
        staging.load_qrels(qrels)


def _say(line: str) -> None:
    """To standard error: standard output may be the run."""
    click.echo(line, err=True)


def _report_input(counts: Counts, bad: formats.BadLines) -> None:
    _say(f"{counts.queries:,} queries, {counts.pairs:,} pairs, {counts.documents:,} documents")
    if bad.count:
        _say(f"skipped {bad.count:,} invalid lines, the first of them:")
        for example in bad.examples:
            _say(f"  {example}")


def _finish(
    journal: Journal,
    tally: rescoring.Tally,
    seconds: float,
    output: str,
    results: str | None,
) -> None:
    """Write the files, and say what was done."""
    if tally.queries:
        journal.write_run(output)
    if results:
        journal.write_results(results)
    journal.remove()
    models = ", ".join(f"{model} ({count:,} queries)" for model, count in tally.models.items())
    rate = tally.pairs / seconds if seconds else 0.0
    _say(
        f"scored {tally.pairs:,} pairs in {seconds:.1f} s ({rate:,.0f} pairs/s) by {models or '-'}"
    )
    if tally.truncated:
        _say(f"cut, because longer than the model reads: {tally.truncated:,} pairs")
    if tally.failed_queries:
        codes = ", ".join(f"{code} ({count:,})" for code, count in tally.codes.items())
        _say(f"{tally.failed_queries:,} queries failed: {codes}. The first: {tally.first_failure}")
    if tally.queries:
        _say(f"wrote {output}" + (f" and {results}" if results else ""))


def _show_measures(console: Console, measured: measures.Measured) -> None:
    table = Table(box=None)
    table.add_column("")
    for name in measured.before:
        table.add_column(name, justify="right")
    for when, values in (("first stage", measured.before), ("reranked", measured.after)):
        table.add_row(when, *(f"{value:.4f}" for value in values.values()))
    console.print(table)
    _say(f"{measured.judged:,} judged queries, {measured.ranked:,} of them in the run")


@contextmanager
def _progress(console: Console, pairs: int) -> Iterator[Callable[[rescoring.Tally], None]]:
    """A bar on a terminal, a plain line now and then elsewhere."""
    if not console.is_terminal:
        yield _Lines(pairs).report
        return
    bar = Progress(
        TextColumn("re-scoring"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} pairs"),
        TextColumn("{task.fields[rate]:,.0f} pairs/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    began = time.monotonic()
    with bar:
        task = bar.add_task("", total=pairs, rate=0.0)

        def report(tally: rescoring.Tally) -> None:
            done = tally.pairs + tally.failed_pairs
            bar.update(task, completed=done, rate=tally.pairs / (time.monotonic() - began))

        yield report


class _Lines:
    """Progress where nobody watches: a line at most every `LINE_EVERY_S` seconds."""

    def __init__(self, pairs: int) -> None:
        self._pairs = pairs
        self._began = self._last = time.monotonic()

    def report(self, tally: rescoring.Tally) -> None:
        now = time.monotonic()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        done = tally.pairs + tally.failed_pairs
        rate = tally.pairs / (now - self._began)
        left = f", {(self._pairs - done) / rate:,.0f} s left" if rate else ""
        _say(f"{done:,}/{self._pairs:,} pairs, {rate:,.0f} pairs/s{left}")
