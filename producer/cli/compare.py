"""Define `rerankq compare`, which shows how another model changes a run."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from contract import errors
from contract.models import ModelName
from contract.printable import counted
from contract.settings import Settings
from producer.cli import common, comparison_report, run_options, run_report, terminal
from producer.client.columns import ColumnsClient
from producer.client.waiting import require_worker
from producer.files import conflicts
from producer.formats.records import InvalidLines
from producer.llm.reranker import LLMReranker
from producer.rescore import comparison, evaluation, llm_scoring, runner, window
from producer.rescore.comparison import ComparisonReport, ModelRun
from producer.rescore.input_files import InputFiles
from producer.rescore.journal import Journal
from producer.rescore.options import Options
from producer.rescore.ranking_changes import ComparisonSummary
from producer.rescore.staging import Staging

#: What scores one side of the comparison.
Scorer = ColumnsClient | LLMReranker


@click.command(epilog=common.EPILOG)
@run_options.file_options
@common.option("--qrels", metavar="FILE", help="Judgments (BEIR or TREC) to evaluate both models.")
@common.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    help="Pass it twice: the baseline, then the model to compare with it.",
)
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
    depth: int | None,
    window: int | None,
    pairs_per_job: int | None,
    skip_invalid: bool,
    worker_wait: float,
    max_wait: float,
    as_json: bool,
) -> None:
    """Compare two models on a first-stage run.

    Both models score the run through the running service. The command prints how much their
    rankings and scores differ, and writes no files. To compare with a language model
    behind an OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY), pass llm:NAME.
    """
    asked = comparison.check_models(models)
    inputs = InputFiles(corpus, queries, run, requests, qrels, download).with_dataset(dataset)
    inputs.check()
    conflicts.check(inputs.uses(), [conflicts.FileUse("standard output", "", 1)])
    bad = InvalidLines(skip=skip_invalid)
    with Staging(settings, bad, depth, column, input_format) as staging:
        counts = inputs.load(staging)
        run_report.print_input(counts, staging.load_report, bad)
        options = [
            Options(
                model=model,
                allow_downgrade=False,
                window=window,
                pairs_per_job=pairs_per_job,
                run_pairs=counts.pairs,
                worker_wait_s=worker_wait,
                max_wait_s=max_wait,
            )
            for model in asked
        ]
        report = _compare(
            settings, staging, counts.pairs, options, with_measures=bool(inputs.qrels)
        )
        print_report = comparison_report.print_json if as_json else comparison_report.print_tables
        print_report(report, staging)
    if report.summary.failed:
        raise SystemExit(common.EXIT_PARTIAL)


def _compare(
    settings: Settings,
    staging: Staging,
    pairs: int,
    options: list[Options],
    *,
    with_measures: bool,
) -> ComparisonReport:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rerankq-")))
        scorers = _load_models(settings, stack, folder, options)
        a, b = (
            stack.enter_context(Journal(str(folder / str(number)), staging))
            for number, _ in enumerate(options)
        )
        first = _score(scorers[0], a, options[0], pairs)
        second = _score(scorers[1], b, options[1], pairs)
        summary = comparison.compare(staging, a, b)
        _print_failed(summary)
        measures = None
        if with_measures:
            measures = evaluation.evaluate(staging, a), evaluation.evaluate(staging, b)
        return ComparisonReport((first, second), summary, measures)


def _load_models(
    settings: Settings, stack: ExitStack, folder: Path, options: list[Options]
) -> list[Scorer]:
    """Load both models first, so that a bad second model is found before an hour of scoring."""
    scorers: list[Scorer] = []
    client: ColumnsClient | None = None
    jobs = 0
    for each in options:
        terminal.print_notice(f"loading {each.model}")
        if llm_scoring.is_llm(each.model):
            scorers.append(llm_scoring.reranker_of(each))
            continue
        if client is None:
            client = stack.enter_context(ColumnsClient(settings))
            require_worker(client, each.worker_wait_s, terminal.print_notice)
            jobs = each.window or window.jobs_for(client)
        comparison.warm_up(client, each, jobs, folder, terminal.print_notice)
        scorers.append(client)
    return scorers


def _score(scorer: Scorer, journal: Journal, options: Options, pairs: int) -> ModelRun:
    """Score all queries with one model; end the command if there is nothing to compare."""
    model = str(options.model)
    began = time.monotonic()
    with run_report.show_progress(
        terminal.console(err=True), pairs, journal.progress(), model
    ) as report_progress:
        if isinstance(scorer, LLMReranker):
            progress = llm_scoring.rescore(scorer, journal, report_progress)
        else:
            progress = runner.rescore(
                scorer, journal, options, report_progress, terminal.print_notice
            )
    seconds = time.monotonic() - began
    run_report.print_scored(progress, seconds)
    if isinstance(scorer, LLMReranker):
        _print_usage(scorer, progress.queries)
    if not progress.queries:
        raise SystemExit(common.EXIT_FAILED)
    if another := comparison.find_other_model(journal, model):
        terminal.print_notice(f"the comparison is invalid: {another}")
        raise SystemExit(common.EXIT_PARTIAL)
    revision = journal.revisions.get(ModelName.parse(model).base)
    return ModelRun(model, revision, progress, seconds)


def _print_usage(reranker: LLMReranker, queries: int) -> None:
    used = reranker.usage
    terminal.print_notice(
        f"{reranker.base_url}: {used.requests:,} requests, {used.prompt_tokens:,} prompt tokens and"
        f" {used.completion_tokens:,} completion tokens for {queries:,} queries"
    )
    if used.failed:
        terminal.print_notice(
            f"{used.failed:,} documents were not rated and are ranked last ({used.malformed:,} of"
            " their answers were malformed)"
        )


def _print_failed(summary: ComparisonSummary) -> None:
    if summary.failed:
        more = ", ..." if summary.failed > len(summary.failed_ids) else ""
        terminal.print_notice(
            f"excluded {counted(summary.failed, 'query', 'queries')} that failed with either model:"
            f" {', '.join(summary.failed_ids)}{more}"
        )
    if not summary.queries:
        raise errors.RerankError("no query was scored by both models")
