"""Define `rerankq rescore`, which turns a first-stage run into a reranked run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from contract import errors, limits
from contract.passages import Aggregate
from contract.printable import counted
from contract.settings import Settings
from producer.cli import common, passage_options, run_options, run_report, run_scoring, terminal
from producer.files.outputs import private_mode
from producer.formats.records import InvalidLines
from producer.rescore import evaluation, output_files, packing, run_writers, session
from producer.rescore.cascade import CascadeRun
from producer.rescore.finished_run import FinishedRun
from producer.rescore.input_files import InputFiles
from producer.rescore.journal import Journal
from producer.rescore.options import MOST_PROCESSES, Cascade, Options, RetryKind
from producer.rescore.output_files import OutputFiles
from producer.rescore.progress import Progress
from producer.rescore.shards import Shard
from producer.rescore.staging import Staging
from producer.score_cache.cache import ScoreCache


@click.command(epilog=common.EPILOG)
@run_options.file_options
@common.option("--output", metavar="FILE", help="Reranked run to write.")
@common.option(
    "--format",
    type=click.Choice(list(run_writers.FORMATS)),
    help="Format of OUTPUT. [default: by its name, else trec]",
)
@common.option(
    "--results",
    metavar="FILE",
    help="Results to write as JSONL (.parquet: as Parquet), with scores and provenance.",
)
@common.option("--qrels", metavar="FILE", help="Judgments (BEIR or TREC) to evaluate both runs.")
@common.model_option
@run_options.cascade_option
@common.downgrade_option
@passage_options.options
@run_options.depth_option
@common.option(
    "--top-k",
    type=common.Count(),
    metavar="K",
    help="Write only the best K documents of each query. [default: all]",
)
@run_options.work_options
@common.option(
    "--processes",
    type=common.Count(maximum=MOST_PROCESSES),
    default=1,
    metavar="N",
    help="Number of processes that send jobs and collect results.",
)
@run_options.cache_option
@run_options.shard_option
@run_options.group_option
@common.option("--restart", is_flag=True, help="Discard an earlier run to OUTPUT, and start again.")
@common.option("--retry-failed", is_flag=True, help="Score the failed queries of a run again.")
@common.option(
    "--rescore-downgraded",
    is_flag=True,
    help="Score the downgraded queries of a run again.",
)
@common.option("--dry-run", is_flag=True, help="Check all input without sending jobs.")
@click.pass_obj
def rescore(
    settings: Settings,
    corpus: str | None,
    queries: str | None,
    run: str | None,
    requests: str | None,
    dataset: str | None,
    download: bool,
    column: dict[str, str],
    input_format: dict[str, str],
    output: str | None,
    format: str | None,
    results: str | None,
    qrels: str | None,
    model: str | None,
    cascade: Cascade | None,
    no_downgrade: bool,
    passages: int | None,
    stride: int | None,
    aggregate: Aggregate | None,
    depth: int | None,
    top_k: int | None,
    window: int | None,
    pairs_per_job: int | None,
    skip_invalid: bool,
    worker_wait: float,
    max_wait: float,
    processes: int,
    cache: str | None,
    shard: Shard | None,
    group: str | None,
    restart: bool,
    retry_failed: bool,
    rescore_downgraded: bool,
    dry_run: bool,
) -> None:
    """Re-score a first-stage run, and write the reranked run.

    All input is checked before any job is sent. Input files may be compressed. The file name - is
    standard input or output.

    Results are appended to OUTPUT.partial.jsonl as they arrive, and OUTPUT is written at the end.
    To resume an interrupted run, run the same command again.
    """
    inputs = InputFiles(corpus, queries, run, requests, qrels, download).with_dataset(dataset)
    inputs.check()
    inputs.check_choices(column, input_format)
    reads = inputs.uses()
    if not output and not dry_run:
        raise errors.InvalidInput("--output is missing; pass a file name, or - for standard output")
    outputs = OutputFiles(
        output,
        results,
        cache,
        format,
        has_record=shard is not None,
        is_cascade=cascade is not None,
    )
    outputs.check(reads)
    retry = _retry_kinds(retry_failed, rescore_downgraded)
    session.check_resumption(output, restart, retry)
    limits.check_model(model, settings)
    if cascade:
        limits.check_model(cascade.model, settings)
        cascade.check_other(model)
    how = passage_options.passages(passages, stride, aggregate)
    if not dry_run:
        reserved = outputs.reserved(terminal.print_notice)
        check_reserved = click.get_current_context().with_resource(reserved)
        if cache and Path(cache).exists():  # now, because reading the input may take minutes
            ScoreCache(cache).close()
    bad = InvalidLines(skip=skip_invalid)
    with Staging(settings, bad, depth, column, input_format, shard) as staging:
        counts = inputs.load(staging)
        run_report.print_input(counts, staging.load_report, bad, shard)
        if dry_run or output is None:
            return
        options = Options(
            model=model,
            passages=how,
            top_k=top_k,
            allow_downgrade=not no_downgrade,
            window=window,
            pairs_per_job=pairs_per_job,
            run_pairs=packing.estimated_run_pairs(staging.staged_queries(), counts.pairs, how),
            processes=processes,
            worker_wait_s=worker_wait,
            max_wait_s=max_wait,
        )
        group = group or settings.group or session.group_of_shards(staging, options, depth, cascade)
        mode = private_mode(output, results)
        with (
            _opened(cache, counts.queries) as scores,
            session.opened(
                output, staging, options, depth, restart=restart, mode=mode, cascade=cascade
            ) as opened,
        ):
            journal = opened.finished
            try:
                with outputs.locked() as files:
                    progress = run_scoring.score(settings, opened, retry, scores, group)
                    check_reserved()
                    output_files.write(journal, progress, format, *files)
                    if progress.queries or shard:
                        names = " and ".join(each.name for each in files)
                        part = f", {shard.words}" if shard else ""
                        terminal.print_notice(f"wrote {names}{part}")
            except BaseException as error:
                journal.keep(terminal.print_notice, error)
                raise
            if inputs.qrels and progress.queries:
                _evaluate(staging, journal)
            _finish(journal, progress)
    if progress.failed_queries:
        raise SystemExit(common.EXIT_PARTIAL if progress.queries else common.EXIT_FAILED)


def _retry_kinds(retry_failed: bool, rescore_downgraded: bool) -> tuple[RetryKind, ...]:
    failed: tuple[RetryKind, ...] = ("failed",) if retry_failed else ()
    downgraded: tuple[RetryKind, ...] = ("downgraded",) if rescore_downgraded else ()
    return failed + downgraded


def _opened(cache: str | None, queries: int) -> AbstractContextManager[ScoreCache | None]:
    """Open the cache, if there is one; say so if it can only be read."""
    if not cache:
        return nullcontext()
    opened = ScoreCache(cache, queries=queries)
    if not opened.writable:
        terminal.print_notice(f"{cache} is read-only: no score is added to it")
    return opened


def _finish(journal: Journal | CascadeRun, progress: Progress) -> None:
    """Remove the journal; if queries can be retried, keep it and print how."""
    retryable = (
        (progress.failed_queries, "failed", "--retry-failed"),
        (progress.downgraded_queries, "downgraded", "--rescore-downgraded"),
    )
    if not journal.resumable or not any(count for count, _, _ in retryable):
        journal.remove()
        return
    for count, what, option in retryable:
        if count:
            terminal.print_notice(
                f"to score {counted(count, f'{what} query', f'{what} queries')} again, run the same"
                f" command with {option}"
            )


def _evaluate(staging: Staging, journal: FinishedRun) -> None:
    if staging.shard:
        has = (
            "the measures are those of its queries"
            if staging.judged_queries()
            else "no query has judgments"
        )
        terminal.print_notice(f"{staging.shard.words}: {has}")
        if not staging.judged_queries():
            return
    _print_measures(evaluation.evaluate(staging, journal), evaluation.first_stage_name(staging))


def _print_measures(measured: evaluation.Evaluation, first_stage: str) -> None:
    columns = [terminal.Column(), *(terminal.Column(name, right=True) for name in measured.before)]
    rows = [
        (when, *(f"{value:.4f}" for value in values.values()))
        for when, values in ((first_stage, measured.before), ("reranked", measured.after))
    ]
    terminal.render(terminal.DataTable(columns, rows), err=True)
    terminal.print_notice(
        f"{measured.judged:,} queries have judgments, {measured.ranked:,} of them in the run"
    )
