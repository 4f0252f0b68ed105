"""Score a run with each of the models that are compared, with progress and a report of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from contract.models import ModelName
from contract.settings import Settings
from producer.cli import common, run_report, terminal
from producer.client.columns import ColumnsClient
from producer.client.waiting import require_worker
from producer.llm.reranker import LLMReranker
from producer.rescore import comparison, llm_scoring, runner, window
from producer.rescore.cascade import CascadeRun
from producer.rescore.comparison import ModelRun
from producer.rescore.journal import Journal
from producer.rescore.options import Options

#: The client or the language model that scores one side of the comparison.
Scorer = ColumnsClient | LLMReranker


def load_models(
    settings: Settings, stack: ExitStack, folder: Path, options: Sequence[Options]
) -> list[Scorer]:
    """Load both models first, so that a bad second model is found before an hour of scoring."""
    scorers: list[Scorer] = []
    client: ColumnsClient | None = None
    jobs = 0
    loaded: set[str | None] = set()
    for each in options:
        if client is not None and each.model in loaded:  # with other passages
            scorers.append(client)
            continue
        terminal.print_notice(f"loading {each.model}")
        if llm_scoring.is_llm(each.model):
            scorers.append(llm_scoring.reranker_of(each))
            continue
        if client is None:
            client = stack.enter_context(ColumnsClient(settings))
            require_worker(client, each.worker_wait_s, terminal.print_notice)
            jobs = each.window or window.jobs_for(client)
        comparison.warm_up(client, each, jobs, folder, terminal.print_notice)
        loaded.add(each.model)
        scorers.append(client)
    return scorers


def score(scorer: Scorer, journal: Journal, options: Options, pairs: int) -> ModelRun:
    """Score all queries with one model; end the command if there is nothing to compare."""
    model, passages = str(options.model), options.passages
    label = f"{model}, passages {passages.key}" if passages else model
    began = time.monotonic()
    with run_report.show_progress(
        terminal.console(err=True), pairs, journal.progress(), label
    ) as report_progress:
        if isinstance(scorer, LLMReranker):
            progress = llm_scoring.rescore(scorer, journal, report_progress)
        else:
            progress = runner.rescore(
                scorer, journal, options, report_progress, terminal.print_notice
            )
    seconds = time.monotonic() - began
    run_report.print_scored(progress, seconds)
    run_report.print_unread(progress, max(journal.max_lengths.values(), default=0), passages)
    if isinstance(scorer, LLMReranker):
        _print_usage(scorer, progress.queries)
    if not progress.queries:
        raise SystemExit(common.EXIT_FAILED)
    if another := comparison.find_other_model(journal, model):
        terminal.print_notice(f"the comparison is invalid: {another}")
        raise SystemExit(common.EXIT_PARTIAL)
    revision = journal.revisions.get(ModelName.parse(model).base)
    return ModelRun(model, revision, progress, seconds, passages)


def score_best(
    scorer: Scorer, run: CascadeRun, options: Options, pairs: int, share: float
) -> ModelRun:
    """Score the best documents of each query, a share of all, with the large model of a cascade."""
    options = replace(options, run_pairs=round(options.run_pairs * share))
    for _ in run.second_rounds(()):
        return score(scorer, run.second, options, pairs)
    raise SystemExit(common.EXIT_FAILED)


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
