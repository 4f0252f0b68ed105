"""Make the reports of `rerankq status` on batches and runs, for a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from rich.console import RenderableType

from contract.batches import BatchProgress, RunProgress, RunState
from producer.cli import terminal


def overview(
    runs: Sequence[RunProgress], batches: Sequence[BatchProgress], now: float | None = None
) -> RenderableType:
    """Return a table of runs and batches, newest first; `now` is in seconds since the epoch."""
    at = time.time() if now is None else now
    rows = [
        *((each.started_at, _run_row(each, at)) for each in runs),
        *((each.submitted_at, _batch_row(each, at)) for each in batches),
    ]
    rows.sort(key=lambda row: row[0], reverse=True)
    columns = [
        terminal.Column("id"),
        terminal.Column("name"),
        terminal.Column("state"),
        terminal.Column("done", right=True),
        terminal.Column("failed", right=True),
        terminal.Column("pairs", right=True),
        terminal.Column("pairs/s", right=True),
        terminal.Column("left", right=True),
        terminal.Column("started", right=True),
    ]
    return terminal.DataTable(columns, [row for _, row in rows])


def as_json(runs: Sequence[RunProgress], batches: Sequence[BatchProgress]) -> str:
    """Return runs and batches as a JSON object."""
    return json.dumps(
        {
            "runs": [each.model_dump(mode="json") for each in runs],
            "batches": [
                {**each.model_dump(mode="json"), "state": each.state.value} for each in batches
            ],
        }
    )


def batch_report(progress: BatchProgress) -> RenderableType:
    """Return a report on one batch."""
    counts = {
        "waiting": progress.waiting,
        "running": progress.running,
        "done": progress.done,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
        "missing": progress.missing,
    }
    shown = ", ".join(f"{number:,} {state}" for state, number in counts.items() if number)
    rows = [
        ("batch", progress.batch_id),
        *([("label", progress.label)] if progress.label else []),
        ("state", _batch_state(progress)),
        ("jobs", f"{progress.jobs:,}" + (f" ({shown})" if shown else "")),
        ("queries", f"{progress.done_requests:,}/{progress.requests:,}"),
        ("pairs", f"{progress.done_pairs:,}/{progress.pairs:,}"),
        ("pairs/s", _number(progress.pairs_per_s)),
        ("left", _left(progress.left_s)),
    ]
    return terminal.name_value_table(rows)


def _run_row(run: RunProgress, now: float) -> tuple[str, ...]:
    state = run.state.value
    if run.state is RunState.RUNNING:
        state += f" on {run.host}, process {run.pid}"
    return (
        run.run_id,
        f"rescore {run.label}",
        state,
        f"{run.queries:,}",
        f"{run.failed_queries:,}",
        f"{run.done_pairs:,}/{run.pairs:,}",
        _number(run.pairs_per_s),
        _left(run.left_s),
        _ago(now - run.started_at),
    )


def _batch_row(batch: BatchProgress, now: float) -> tuple[str, ...]:
    return (
        batch.batch_id,
        batch.label or "",
        _batch_state(batch),
        f"{batch.done_requests:,}/{batch.requests:,}",
        f"{batch.failed_requests:,}",
        f"{batch.done_pairs:,}/{batch.pairs:,}",
        _number(batch.pairs_per_s),
        _left(None if batch.ended else batch.left_s),
        _ago(now - batch.submitted_at),
    )


def _batch_state(batch: BatchProgress) -> str:
    notes = [
        *(["submitting"] if batch.submitting else []),
        *([f"{batch.missing:,} jobs missing"] if batch.missing and not batch.submitting else []),
    ]
    return batch.state.value + (f", {', '.join(notes)}" if notes else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _ago(seconds: float) -> str:
    return f"{duration(max(0.0, seconds))} ago"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: `3 d 4 h`, `2 h 5 min`, `1 min 30 s`, `12 s`."""
    whole = round(seconds)
    for size, unit, rest, smaller in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // rest} {smaller}"
    return f"{whole} s"
