"""`rerankq compare`: what changes for a run if another model scores it."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from contract import errors
from contract.settings import Settings
from producer.cli import common, run_options, terminal
from producer.client import waiting
from producer.client.blocking import RerankClient
from producer.files import conflicts
from producer.formats.records import InvalidLines
from producer.rescore import comparison as comparing
from producer.rescore import evaluation
from producer.rescore import runner as rescoring
from producer.rescore.comparison import Collection, ComparisonSummary
from producer.rescore.journal import Journal
from producer.rescore.options import Options, job_size
from producer.rescore.progress import Progress


@click.command(epilog=common.EPILOG)
@run_options.file_options
@common.option("--qrels", metavar="FILE", help="Judgments (BEIR or TREC): measure both models.")
@common.option(
    "--model",
    "models",
    metavar="M",
    multiple=True,
    help="Twice: the model to compare against, then the other one.",
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
    qrels: str | None,
    models: tuple[str, ...],
    depth: int | None,
    window: int,
    pairs_per_job: int | None,
    skip_invalid: bool,
    worker_wait: float,
    max_wait: float,
    as_json: bool,
) -> None:
    """Show what changes if another model scores: before you turn it on.

    Scores a first-stage run with both models, through the running service, and prints how far
    their rankings and scores are apart; nothing else is written. The second model may be the int8
    form of the first, MODEL@int8.
    """
    asked = comparing.check_models(models)
    files = run_options.check_files(corpus, queries, run, requests, qrels)
    reads = run_options.reads(corpus, queries, run, requests, qrels)
    conflicts.check(reads, [conflicts.FileUse("standard output", "", 1)])
    bad = InvalidLines(skip=skip_invalid)
    with Collection(settings, bad, depth) as collection:
        pairs = run_options.load(collection, files, qrels, bad).pairs
        size = pairs_per_job or job_size(pairs)
        options = [
            Options(
                model=model,
                allow_downgrade=False,
                window=window,
                pairs_per_job=size,
                worker_wait_s=worker_wait,
                max_wait_s=max_wait,
            )
            for model in asked
        ]
        report = _compare(settings, collection, pairs, options, measured=bool(qrels))
        (_print_json if as_json else _print_tables)(report, collection)
    if report.summary.failed:
        raise SystemExit(common.EXIT_PARTIAL)


@dataclass(frozen=True)
class _Pass:
    """One model's scoring of everything."""

    model: str
    progress: Progress
    seconds: float

    @property
    def rate(self) -> float:
        """Pairs a second."""
        return self.progress.pairs / self.seconds


@dataclass(frozen=True)
class _Report:
    """All that is printed."""

    passes: tuple[_Pass, _Pass]
    summary: ComparisonSummary
    #: Of each model, if there are judgments.
    measured: tuple[evaluation.Evaluation, evaluation.Evaluation] | None

    @property
    def speedup(self) -> float:
        """How many times as fast the second model was."""
        return self.passes[1].rate / self.passes[0].rate


def _compare(
    settings: Settings,
    collection: Collection,
    pairs: int,
    options: list[Options],
    *,
    measured: bool,
) -> _Report:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rerankq-")))
        client = stack.enter_context(RerankClient(settings))
        _prepare(client, folder, options)
        indexes = [stack.enter_context(collection.index()) for _ in options]
        a, b = (
            stack.enter_context(Journal(str(folder / str(number)), index))
            for number, index in enumerate(indexes)
        )
        first = _score(client, collection, a, options[0], pairs)
        second = _score(client, collection, b, options[1], pairs)
        summary = comparing.compare(collection, a, b)
        _report_failed(summary)
        return _Report(
            passes=(first, second),
            summary=summary,
            measured=(evaluation.evaluate(collection, a), evaluation.evaluate(collection, b))
            if measured
            else None,
        )


def _prepare(client: RerankClient, folder: Path, options: list[Options]) -> None:
    """Load both models before either scores: an hour of the first is not lost on the second."""
    waiting.require_worker(client, options[0].worker_wait_s, terminal.print_notice)
    for each in options:
        terminal.print_notice(f"loading {each.model}")
        comparing.warm_up(client, each, folder, terminal.print_notice)


def _score(
    client: RerankClient,
    collection: Collection,
    journal: Journal,
    options: Options,
    pairs: int,
) -> _Pass:
    """Score everything with one model; ends the command if there is nothing to compare."""
    model = str(options.model)
    began = time.monotonic()
    with run_options.show_progress(terminal.console(err=True), pairs, model) as report:
        progress = rescoring.rescore(
            client, collection, journal, options, report, terminal.print_notice
        )
    seconds = time.monotonic() - began
    run_options.report_scored(progress, seconds)
    if not progress.queries:
        raise SystemExit(common.EXIT_FAILED)
    if another := comparing.find_other_model(journal, model):
        terminal.print_notice(f"the comparison is void: {another}")
        raise SystemExit(common.EXIT_PARTIAL)
    return _Pass(model, progress, seconds)


def _report_failed(summary: ComparisonSummary) -> None:
    if summary.failed:
        more = ", ..." if summary.failed > len(summary.failed_ids) else ""
        terminal.print_notice(
            f"{summary.failed:,} queries that failed with either model are left out:"
            f" {', '.join(summary.failed_ids)}{more}"
        )
    if not summary.queries:
        raise errors.RerankError("no query was scored by both models: nothing to compare")


def _print_tables(report: _Report, collection: Collection) -> None:
    for letter, each in zip("AB", report.passes, strict=True):
        terminal.print_line(f"{letter}  {each.model}")
    terminal.print_line(f"{report.summary.queries:,} queries, {report.summary.pairs:,} pairs")
    terminal.print_line("")
    terminal.render(_changes(report.summary))
    terminal.print_line("")
    terminal.render(_qualities(report))
    if report.measured:
        judged, ranked = report.measured[0].judged, report.measured[0].ranked
        terminal.print_line(f"{judged:,} judged queries, {ranked:,} of them compared")
    if report.summary.changed:
        terminal.print_line("")
        terminal.print_line("changed most")
        terminal.render(_examples(report.summary, collection))


def _changes(summary: ComparisonSummary) -> terminal.DataTable:
    rows = [("top 10 of A in top 10 of B, mean", f"{summary.mean_overlap:.2%}")]
    if summary.short:
        rows.append(("  have no more than 10 documents", f"{summary.short:,} queries"))
    for what, count in (
        ("same best document", summary.same_best),
        ("same top 10 in the same order", summary.same_order),
    ):
        rows.append((what, f"{count / summary.queries:.2%}"))
    if summary.mean_tau is not None:
        rows.append(("Kendall's tau, mean", f"{summary.mean_tau:.4f}"))
    rows.append(("score difference, mean", f"{summary.mean_difference:.2g}"))
    rows.append(("score difference, largest", f"{summary.largest_difference:.2g}"))
    return terminal.DataTable([terminal.Column(), terminal.Column(right=True)], rows)


def _qualities(report: _Report) -> terminal.DataTable:
    """How good the rankings are, if that was measured, and how fast they were made."""
    columns = [terminal.Column()]
    rows = [["A"], ["B"], ["change"]]
    if report.measured:
        a, b = report.measured
        rows.insert(0, ["first stage"])
        for name, change in comparing.difference(a.after, b.after).items():
            columns.append(terminal.Column(name, right=True))
            values = [f"{each[name]:.4f}" for each in (a.before, a.after, b.after)]
            for row, value in zip(rows, [*values, f"{change:+.4f}"], strict=True):
                row.append(value)
        rows[0].append("")
    columns.append(terminal.Column("pairs/s", right=True))
    rates = [f"{each.rate:,.0f}" for each in report.passes]
    for row, value in zip(rows[-3:], [*rates, f"x {report.speedup:.2f}"], strict=True):
        row.append(value)
    return terminal.DataTable(columns, rows)


def _examples(summary: ComparisonSummary, collection: Collection) -> terminal.DataTable:
    columns = [
        terminal.Column("query"),
        terminal.Column("in both", right=True),
        terminal.Column("tau", right=True),
        terminal.Column("text", truncate=True),
    ]
    rows = [
        (
            each.query_id,
            f"{each.overlap:.0%}",
            "" if each.tau is None else f"{each.tau:.2f}",
            collection.text(each.query_id),
        )
        for each in summary.changed
    ]
    return terminal.DataTable(columns, rows)


def _print_json(report: _Report, collection: Collection) -> None:
    summary = report.summary
    data = {
        **{letter: _pass_data(each) for letter, each in zip("ab", report.passes, strict=True)},
        "speedup": report.speedup,
        "queries": summary.queries,
        "pairs": summary.pairs,
        "short_queries": summary.short,
        "failed_queries": summary.failed,
        "failed_ids": summary.failed_ids,
        "mean_overlap": summary.mean_overlap,
        "same_best": summary.same_best / summary.queries,
        "same_order": summary.same_order / summary.queries,
        "mean_tau": summary.mean_tau,
        "mean_difference": summary.mean_difference,
        "largest_difference": summary.largest_difference,
        "measures": _measures_data(report),
        "changed_most": [
            {
                "query_id": each.query_id,
                "query": collection.text(each.query_id),
                "overlap": each.overlap,
                "tau": each.tau,
            }
            for each in summary.changed
        ],
    }
    terminal.print_json(json.dumps(data, ensure_ascii=False))


def _pass_data(scored: _Pass) -> dict[str, Any]:
    return {
        "model": scored.model,
        "pairs": scored.progress.pairs,
        "seconds": scored.seconds,
        "pairs_per_s": scored.rate,
    }


def _measures_data(report: _Report) -> dict[str, Any] | None:
    if not report.measured:
        return None
    a, b = report.measured
    return {
        "judged_queries": a.judged,
        "judged_queries_compared": a.ranked,
        "first_stage": a.before,
        "a": a.after,
        "b": b.after,
        "change": comparing.difference(a.after, b.after),
    }
