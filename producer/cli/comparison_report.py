"""Print a comparison of two models, as tables or as JSON."""

from __future__ import annotations

import json
from typing import Any

from contract.printable import counted
from producer.cli import terminal
from producer.rescore import evaluation
from producer.rescore.comparison import ComparisonReport, ModelRun, difference
from producer.rescore.ranking_changes import ComparisonSummary
from producer.rescore.staging import Staging

#: The columns of the table of work.
_COSTS = ("pairs", "pairs/s", "seconds")


def print_tables(report: ComparisonReport, staging: Staging) -> None:
    for letter, each in zip("AB", report.runs, strict=True):
        terminal.print_line(f"{letter}  {each.name}")
    queries = counted(report.summary.queries, "query", "queries")
    terminal.print_line(f"{queries}, {counted(report.summary.pairs, 'pair')}")
    terminal.print_line("")
    terminal.render(_changes(report))
    terminal.print_line("")
    terminal.render(_qualities(report, evaluation.first_stage_name(staging)))
    if report.is_of_cascade:
        terminal.print_line("")
        terminal.render(_costs(report))
        terminal.print_line(
            f"B takes {1 - report.time_saved:.0%} of the time of A, and saves"
            f" {report.time_saved:.0%}"
        )
    if report.measures:
        judged, ranked = report.measures[0].judged, report.measures[0].ranked
        terminal.print_line(f"{judged:,} queries have judgments, {ranked:,} of them compared")
    if report.summary.changed:
        terminal.print_line("")
        terminal.print_line("queries that changed most")
        terminal.render(_examples(report.summary, staging))


def _costs(report: ComparisonReport) -> terminal.DataTable:
    """Return a table of the work of the large model alone, and of each model of its cascade."""
    columns = [terminal.Column(), *(terminal.Column(name, right=True) for name in _COSTS)]
    runs = [("A", report.runs[0]), *(("B", each) for each in report.runs[1].passes)]
    rows = [
        (
            f"{letter}, {each.name}",
            f"{each.progress.pairs:,}",
            f"{each.pairs_per_s:,.0f}",
            f"{each.seconds:,.1f}",
        )
        for letter, each in runs
    ]
    return terminal.DataTable(columns, rows)


def _changes(report: ComparisonReport) -> terminal.DataTable:
    summary = report.summary
    rows = [("overlap of the top 10, mean", f"{summary.mean_overlap:.2%}")]
    if summary.short:
        rows.append(("  queries with at most 10 documents", f"{summary.short:,}"))
    for what, count in (
        ("same top document", summary.same_best),
        ("same top 10, same order", summary.same_order),
    ):
        rows.append((what, f"{count / summary.queries:.2%}"))
    if summary.mean_tau is not None:
        rows.append(("Kendall's tau, mean", f"{summary.mean_tau:.4f}"))
    if not report.is_of_cascade:  # whose scores are of two models
        rows.append(("score difference, mean", f"{summary.mean_difference:.2g}"))
        rows.append(("score difference, maximum", f"{summary.largest_difference:.2g}"))
    return terminal.DataTable([terminal.Column(), terminal.Column(right=True)], rows)


def _qualities(report: ComparisonReport, first_stage: str) -> terminal.DataTable:
    """Return a table of the speeds, and of the measures if there are judgments."""
    columns = [terminal.Column()]
    rows = [["A"], ["B"], ["change"]]
    if report.measures:
        a, b = report.measures
        rows.insert(0, [first_stage])
        for name, change in difference(a.after, b.after).items():
            columns.append(terminal.Column(name, right=True))
            values = [f"{each[name]:.4f}" for each in (a.before, a.after, b.after)]
            for row, value in zip(rows, [*values, f"{change:+.4f}"], strict=True):
                row.append(value)
        rows[0].append("")
    columns.append(terminal.Column("pairs/s", right=True))
    rates = [f"{each.pairs_per_s:,.0f}" for each in report.runs]
    for row, value in zip(rows[-3:], [*rates, f"x {report.speedup:.2f}"], strict=True):
        row.append(value)
    return terminal.DataTable(columns, rows)


def _examples(summary: ComparisonSummary, staging: Staging) -> terminal.DataTable:
    columns = [
        terminal.Column("query"),
        terminal.Column("overlap", right=True),
        terminal.Column("tau", right=True),
        terminal.Column("text", truncate=True),
    ]
    rows = [
        (
            each.query_id,
            f"{each.overlap:.0%}",
            "" if each.tau is None else f"{each.tau:.2f}",
            staging.query_text(each.query_id),
        )
        for each in summary.changed
    ]
    return terminal.DataTable(columns, rows)


def print_json(report: ComparisonReport, staging: Staging) -> None:
    summary = report.summary
    data = {
        **{letter: _run_data(each) for letter, each in zip("ab", report.runs, strict=True)},
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
        # The scores of a cascade are of two models.
        "mean_difference": None if report.is_of_cascade else summary.mean_difference,
        "largest_difference": None if report.is_of_cascade else summary.largest_difference,
        "time_saved": report.time_saved,
        "measures": _measures_data(report),
        "changed_most": [
            {
                "query_id": each.query_id,
                "query": staging.query_text(each.query_id),
                "overlap": each.overlap,
                "tau": each.tau,
            }
            for each in summary.changed
        ],
    }
    terminal.print_json(json.dumps(data, ensure_ascii=False))


def _run_data(scored: ModelRun) -> dict[str, Any]:
    return {
        "model": scored.model,
        "passages": scored.passages and scored.passages.key,
        "revision": scored.revision,
        "pairs": scored.progress.pairs,
        "seconds": scored.seconds,
        "pairs_per_s": scored.pairs_per_s,
    } | ({"passes": list(map(_run_data, scored.passes))} if scored.passes else {})


def _measures_data(report: ComparisonReport) -> dict[str, Any] | None:
    if not report.measures:
        return None
    a, b = report.measures
    return {
        "judged_queries": a.judged,
        "judged_queries_compared": a.ranked,
        "first_stage": a.before,
        "a": a.after,
        "b": b.after,
        "change": difference(a.after, b.after),
    }
