"""Define `rerankq compare`, which shows how another model changes a run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from contract import errors, limits
from contract.passages import Aggregate, Passages
from contract.printable import counted
from contract.settings import Settings
from producer.cli import (
    common,
    comparison_report,
    comparison_scoring,
    passage_options,
    run_options,
    run_report,
    terminal,
)
from producer.files import conflicts
from producer.formats.records import InvalidLines
from producer.rescore import comparison, evaluation, llm_scoring, packing
from producer.rescore.cascade import BestOf, CascadeRun
from producer.rescore.comparison import ComparisonReport, ModelRun
from producer.rescore.finished_run import FinishedRun
from producer.rescore.input_files import InputFiles
from producer.rescore.journal import Journal
from producer.rescore.options import Cascade, Options
from producer.rescore.ranking_changes import ComparisonSummary
from producer.rescore.staging import Staging


@click.command(epilog=common.EPILOG)
@run_options.file_options
@common.option("--qrels", metavar="FILE", help="Judgments (BEIR or TREC) to evaluate both models.")
@common.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    help="Model to compare. Pass the option twice, with the baseline first.",
)
@run_options.compared_cascade_option
@passage_options.options
@run_options.depth_option
@run_options.work_options
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def compare(
    settings: Settings,
    corpus: str | None,
    queries: str | None,
    run: str | None,
    requests: str | None,
    dataset: str | None,
    download: bool,
    column: dict[str, str],
    input_format: dict[str, str],
    qrels: str | None,
    models: tuple[str, ...],
    cascade: Cascade | None,
    passages: int | None,
    stride: int | None,
    aggregate: Aggregate | None,
    depth: int | None,
    window: int | None,
    pairs_per_job: int | None,
    skip_invalid: bool,
    worker_wait: float,
    max_wait: float,
    as_json: bool,
) -> None:
    """Compare two models on a first-stage run, or a model with its cascade or with passages.

    Both models score the run through the running service. The command prints how much their
    rankings and scores differ, and writes no files. To compare with a language model
    behind an OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY), pass llm:NAME.

    With one --model and --passages, the model is compared with itself: A truncates documents, and B
    cuts them. With two models or --cascade, all models cut them, except language models.
    """
    how = passage_options.passages(passages, stride, aggregate)
    named = comparison.check_models(models, cascade, how)
    inputs = InputFiles(corpus, queries, run, requests, qrels, download).with_dataset(dataset)
    inputs.check()
    inputs.check_choices(column, input_format)
    conflicts.check(inputs.uses(), [conflicts.FileUse("standard output", "", 1)])
    asked = _with_passages(named, how, settings)
    bad = InvalidLines(skip=skip_invalid)
    with Staging(settings, bad, depth, column, input_format) as staging:
        counts = inputs.load(staging)
        run_report.print_input(counts, staging.load_report, bad)
        options = [
            Options(
                model=model,
                passages=cut,
                allow_downgrade=False,
                window=window,
                pairs_per_job=pairs_per_job,
                run_pairs=packing.estimated_run_pairs(staging.staged_queries(), counts.pairs, cut),
                worker_wait_s=worker_wait,
                max_wait_s=max_wait,
            )
            for model, cut in asked
        ]
        report = _compare(settings, staging, options, cascade, with_measures=bool(inputs.qrels))
        print_report = comparison_report.print_json if as_json else comparison_report.print_tables
        print_report(report, staging)
    if report.summary.failed:
        raise SystemExit(common.EXIT_PARTIAL)


def _with_passages(
    asked: Sequence[str], how: Passages | None, settings: Settings
) -> list[tuple[str, Passages | None]]:
    """Return both models with their passages. Raises `InvalidInput` if one is not allowed."""
    queued = [model for model in asked if not llm_scoring.is_llm(model)]
    for model in queued:
        limits.check_model(model, settings)
    if how and not queued:
        raise errors.InvalidInput("--passages has no effect on language models")
    a, b = ((model, how if model in queued else None) for model in asked)
    return [(a[0], None) if a == b else a, b]


def _compare(
    settings: Settings,
    staging: Staging,
    options: Sequence[Options],
    cascade: Cascade | None,
    *,
    with_measures: bool,
) -> ComparisonReport:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rerankq-")))
        one, other = comparison_scoring.load_models(settings, stack, folder, options)
        a, b = (
            stack.enter_context(Journal(str(folder / str(number)), staging))
            for number, _ in enumerate(options)
        )
        pairs = staging.counts().pairs
        runs = (
            comparison_scoring.score(one, a, options[0], pairs),
            comparison_scoring.score(other, b, options[1], pairs),
        )
        compared: FinishedRun = b
        if cascade:
            selection = BestOf(b, cascade.keep)
            second = Journal(str(folder / "second"), staging, selection=selection)
            compared = CascadeRun(b, stack.enter_context(second), cascade, None)
            kept = staging.pairs_up_to(cascade.keep)
            large = comparison_scoring.score_best(one, compared, options[0], kept, kept / pairs)
            runs = runs[0], ModelRun.of_passes(cascade, runs[1], large)
        summary = comparison.compare(staging, a, compared)
        _print_failed(summary)
        measures = None
        if with_measures:
            measures = evaluation.evaluate(staging, a), evaluation.evaluate(staging, compared)
        return ComparisonReport(runs, summary, measures)


def _print_failed(summary: ComparisonSummary) -> None:
    if summary.failed:
        more = ", ..." if summary.failed > len(summary.failed_ids) else ""
        terminal.print_notice(
            f"excluded {counted(summary.failed, 'query', 'queries')} that failed with either model:"
            f" {', '.join(summary.failed_ids)}{more}"
        )
    if not summary.queries:
        raise errors.RerankError("no query was scored by both models")
