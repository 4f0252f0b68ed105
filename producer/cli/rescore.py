"""`rerankq rescore`: a first-stage run goes in, a reranked run comes out."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table

from contract import errors
from contract.settings import Settings
from producer import formats, measures
from producer import rescore as rescoring
from producer.cli import common, runs
from producer.client import RerankClient
from producer.journal import STDOUT, Journal, check_writable
from producer.staging import Counts, Staging


@click.command(epilog=common.EPILOG)
@runs.file_options
@common.option("--output", metavar="FILE", help="The reranked run, in TREC format.")
@common.option("--results", metavar="FILE", help="Also as JSONL, with scores and provenance.")
@common.option(
    "--qrels", metavar="FILE", help="Judgments (BEIR or TREC): measure before and after."
)
@common.option("--model", metavar="M", help="Another model than the worker's own.")
@runs.depth_option
@common.option(
    "--top-k", type=click.IntRange(min=1), metavar="K", help="Write the best K. [default: all]"
)
@runs.work_options
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
    pairs_per_job: int | None,
    skip_invalid: bool,
    dry_run: bool,
) -> None:
    """Re-score a first-stage run: a run goes in, a reranked run comes out.

    Files may be gzipped; - is standard input (one of them) or standard output. What is wrong with
    them is found before anything is sent. Results are appended to OUTPUT.partial.jsonl as they
    arrive; OUTPUT appears when all is done.
    """
    files = runs.check_files(corpus, queries, run, requests, qrels)
    _check_outputs(output, results, dry_run, (*files, qrels))
    bad = formats.BadLines(skip=skip_invalid)
    if qrels:
        measures.require()
    with Staging(settings, bad, depth) as staging:
        counts = runs.load(staging, files, qrels, bad)
        if dry_run or output is None:
            return
        options = rescoring.Options(
            model=model,
            top_k=top_k,
            window=window,
            pairs_per_job=pairs_per_job or rescoring.job_size(counts.pairs),
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
                with runs.progress(console, counts.pairs) as report:
                    tally = rescoring.rescore(client, staging, journal, options, report)
            except BaseException:
                journal.keep(runs.say)
                raise
            _finish(journal, tally, time.monotonic() - began, output, results)
            if measured and tally.queries:
                _show_measures(console, measures.measure(staging, journal))
    return tally


def _check_outputs(
    output: str | None, results: str | None, dry_run: bool, inputs: tuple[str | None, ...]
) -> None:
    if not output and not dry_run:
        raise errors.InvalidInput("give --output")
    outputs = [each for each in (output, results) if each]
    if len(set(outputs)) < len(outputs):
        raise errors.InvalidInput(f"--output and --results are both {output}")
    for each in outputs:
        check_writable(each)
        if each != STDOUT and each in inputs:
            raise errors.InvalidInput(f"{each} is both input and output")


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
    runs.report_scored(tally, seconds)
    if tally.queries:
        runs.say(f"wrote {output}" + (f" and {results}" if results else ""))


def _show_measures(console: Console, measured: measures.Measured) -> None:
    table = Table(box=None)
    table.add_column("")
    for name in measured.before:
        table.add_column(name, justify="right")
    for when, values in (("first stage", measured.before), ("reranked", measured.after)):
        table.add_row(when, *(f"{value:.4f}" for value in values.values()))
    console.print(table)
    runs.say(f"{measured.judged:,} judged queries, {measured.ranked:,} of them in the run")
