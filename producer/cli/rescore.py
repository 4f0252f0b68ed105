"""`rerankq rescore`: a first-stage run goes in, a reranked run comes out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack

import click

from contract import errors
from contract.settings import Settings
from producer.cli import common, run_options, terminal
from producer.client import waiting
from producer.client.blocking import RerankClient
from producer.files import conflicts
from producer.files.outputs import OutputFile, check_writable, private_mode
from producer.files.streams import is_stream
from producer.formats.records import InvalidLines
from producer.rescore import evaluation
from producer.rescore import runner as rescoring
from producer.rescore.journal import Journal, journal_path
from producer.rescore.journal_index import RetryKind
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.options import Options, job_size
from producer.rescore.progress import Progress
from producer.rescore.resume import ResumableJournal, manifest_path
from producer.rescore.staging import Counts, Staging


@click.command(epilog=common.EPILOG)
@run_options.file_options
@common.option("--output", metavar="FILE", help="The reranked run, in TREC format.")
@common.option("--results", metavar="FILE", help="Also as JSONL, with scores and provenance.")
@common.option(
    "--qrels", metavar="FILE", help="Judgments (BEIR or TREC): measure before and after."
)
@common.option("--model", metavar="M", help="Another model than the worker's own.")
@common.downgrade_option
@run_options.depth_option
@common.option("--top-k", type=common.Count(), metavar="K", help="Write the best K. [default: all]")
@run_options.work_options
@common.option("--restart", is_flag=True, help="Forget an earlier run to OUTPUT; begin anew.")
@common.option("--retry-failed", is_flag=True, help="Of a finished run, score what failed again.")
@common.option(
    "--rescore-downgraded", is_flag=True, help="Likewise what a smaller model has scored."
)
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
    no_downgrade: bool,
    depth: int | None,
    top_k: int | None,
    window: int,
    pairs_per_job: int | None,
    skip_invalid: bool,
    worker_wait: float,
    max_wait: float,
    restart: bool,
    retry_failed: bool,
    rescore_downgraded: bool,
    dry_run: bool,
) -> None:
    """Re-score a first-stage run: a run goes in, a reranked run comes out.

    Files may be gzipped; - is standard input (one of them) or standard output. What is wrong with
    them is found before anything is sent. Results are appended to OUTPUT.partial.jsonl as they
    arrive; OUTPUT appears when all is done. Interrupted, the same command continues.
    """
    files = run_options.check_files(corpus, queries, run, requests, qrels)
    _check_outputs(
        output, results, dry_run, run_options.reads(corpus, queries, run, requests, qrels)
    )
    redo = _redo(retry_failed, rescore_downgraded)
    _check_resumption(output, restart, redo)
    bad = InvalidLines(skip=skip_invalid)
    with Staging(settings, bad, depth) as staging:
        counts = run_options.load(staging, files, qrels, bad)
        if dry_run or output is None:
            return
        options = Options(
            model=model,
            top_k=top_k,
            allow_downgrade=not no_downgrade,
            window=window,
            pairs_per_job=pairs_per_job or job_size(counts.pairs),
            worker_wait_s=worker_wait,
            max_wait_s=max_wait,
        )
        mode = private_mode(output, results)
        with _journal(output, staging, options, depth, restart, mode) as journal:
            try:
                with ExitStack() as stack:
                    names = filter(None, (output, results))
                    files_made = [stack.enter_context(OutputFile(name)) for name in names]
                    progress = _rescore(settings, staging, counts, journal, options, redo)
                    _write(journal, progress, *files_made)
            except BaseException:
                journal.keep(terminal.print_notice)
                raise
            if qrels and progress.queries:
                _show_measures(evaluation.evaluate(staging, journal))
            _finish(journal, progress)
    if progress.failed_queries:
        raise SystemExit(common.EXIT_PARTIAL if progress.queries else common.EXIT_FAILED)


def _journal(
    output: str,
    staging: Staging,
    options: Options,
    depth: int | None,
    restart: bool,
    mode: int,
) -> Journal:
    """The journal of this run, taken up where an earlier one of the same command has ended."""
    if is_stream(output):
        return Journal(output, staging, mode)
    asked = ScoringSettings(
        model=options.model,
        depth=depth,
        top_k=options.top_k,
        allow_downgrade=options.allow_downgrade,
    )
    wanted = Manifest.new(staging.inputs(), asked, options.pairs_per_job)
    return ResumableJournal(output, staging, wanted, restart=restart, mode=mode)


def _rescore(
    settings: Settings,
    staging: Staging,
    counts: Counts,
    journal: Journal,
    options: Options,
    redo: tuple[RetryKind, ...],
) -> Progress:
    """Score what is to be scored, and say how that went."""
    if isinstance(journal, ResumableJournal):
        options = dataclasses.replace(options, pairs_per_job=journal.manifest.pairs_per_job)
    if journal.resumed:
        done = counts.queries - journal.pending
        terminal.print_notice(f"continuing: {done:,} of {counts.queries:,} queries are done")
    began, scored_pairs = time.monotonic(), 0
    console = terminal.console(err=True)
    progress = journal.progress()
    with RerankClient(settings) as client:
        for _ in journal.rounds(redo):
            waiting.require_worker(client, options.worker_wait_s, terminal.print_notice)
            earlier = journal.progress()
            with run_options.show_progress(console, counts.pairs, earlier=earlier) as report:
                progress = rescoring.rescore(
                    client, staging, journal, options, report, terminal.print_notice
                )
            scored_pairs += progress.pairs - earlier.pairs
    run_options.report_scored(progress, time.monotonic() - began, progress.pairs - scored_pairs)
    return progress


def _redo(retry_failed: bool, rescore_downgraded: bool) -> tuple[RetryKind, ...]:
    failed: tuple[RetryKind, ...] = ("failed",) if retry_failed else ()
    downgraded: tuple[RetryKind, ...] = ("downgraded",) if rescore_downgraded else ()
    return failed + downgraded


def _check_resumption(output: str | None, restart: bool, redo: tuple[RetryKind, ...]) -> None:
    if restart and redo:
        raise errors.InvalidInput("--restart forgets the run of which something is to be redone")
    if (restart or redo) and output and is_stream(output):
        raise errors.InvalidInput(
            f"--output {output} cannot be taken up: --restart, --retry-failed and"
            " --rescore-downgraded are for a file"
        )


def _check_outputs(
    output: str | None, results: str | None, dry_run: bool, reads: Sequence[conflicts.FileUse]
) -> None:
    if not output and not dry_run:
        raise errors.InvalidInput("give --output")
    for each in filter(None, (output, results)):
        check_writable(each)
    writes = [
        *conflicts.output_uses("--output", output),
        *conflicts.output_uses("--results", results),
    ]
    if output and not is_stream(output):
        manifest = str(manifest_path(output))
        writes += [
            conflicts.FileUse("the journal of --output", str(journal_path(output))),
            *conflicts.output_uses("the manifest of --output", manifest),
        ]
    conflicts.check(reads, writes)


def _write(
    journal: Journal, progress: Progress, output: OutputFile, results: OutputFile | None = None
) -> None:
    """Write the files."""
    if progress.queries:
        journal.write_run(output)
    if results:
        journal.write_results(results)
    if progress.queries:
        terminal.print_notice(f"wrote {output.name}" + (f" and {results.name}" if results else ""))


def _finish(journal: Journal, progress: Progress) -> None:
    """Remove what is needed no longer; if something could be redone, say how."""
    redoable = (
        (progress.failed_queries, "failed", "--retry-failed"),
        (progress.downgraded_queries, "were downgraded", "--rescore-downgraded"),
    )
    if not journal.resumable or not any(count for count, _, _ in redoable):
        journal.remove()
        return
    for count, what, option in redoable:
        if count:
            terminal.print_notice(
                f"{count:,} queries {what}: the same command with {option} redoes them"
            )


def _show_measures(measured: evaluation.Evaluation) -> None:
    columns = [terminal.Column(), *(terminal.Column(name, right=True) for name in measured.before)]
    rows = [
        (when, *(f"{value:.4f}" for value in values.values()))
        for when, values in (("first stage", measured.before), ("reranked", measured.after))
    ]
    terminal.render(terminal.DataTable(columns, rows), err=True)
    terminal.print_notice(
        f"{measured.judged:,} judged queries, {measured.ranked:,} of them in the run"
    )
