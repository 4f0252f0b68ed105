"""Make the reports of `rerankq status` on the service and on a job, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from contract import jobs, metrics
from contract.metrics import Counter
from contract.models import short_name
from contract.printable import visible
from producer.cli import terminal

#: The rows that the report shows for each model.
_MODEL_ROWS: tuple[tuple[str, Counter], ...] = (
    ("queries", metrics.QUERIES),
    ("pairs", metrics.PAIRS),
    ("... duplicates", metrics.DUPLICATES),
    ("... truncated", metrics.TRUNCATED),
    ("tokens", metrics.TOKENS),
    ("batches", metrics.BATCHES),
    ("out of memory", metrics.SHORTAGES),
    ("... batches halved", metrics.HALVINGS),
)


#: The number of workers that the report names.
MAX_NAMES = 6


@dataclass(frozen=True)
class Snapshot:
    """The status of the service, and when it was read, by this machine's monotonic clock."""

    status: jobs.QueueStatus
    at_s: float

    def rate(self, before: Snapshot | None, counter: Counter, label: str = "") -> float | None:
        """Return the increase per second since `before`; None without `before`."""
        if before is None:
            return None
        now, then = (each.count(counter, label) for each in (self, before))
        # The value decreases if the counters have expired, or if Redis has lost them.
        return max(0.0, now - then) / (self.at_s - before.at_s)

    def count(self, counter: Counter, label: str = "") -> float:
        return self.status.counters.get(counter.name, {}).get(label, 0.0)


def service_report(
    now: Snapshot, before: Snapshot | None = None, trouble: str = ""
) -> RenderableType:
    """Return a report on the whole service, with rates since `before`.

    `trouble` is the reason why there is no snapshot after `now`.
    """
    parts: list[RenderableType] = [terminal.name_value_table(_overview(now, before))]
    if trouble:
        parts.insert(0, Text(visible(trouble), style="red", overflow="fold"))
    if now.status.counters[metrics.PAIRS.name]:
        parts += [Text(), _models(now, before)]
    return Group(*parts)


def job_report(status: jobs.JobStatus) -> RenderableType:
    """Return a report on one job."""
    rows = [("job", status.job_id), ("state", status.state.value)]
    if status.code:
        rows.append(("code", status.code))
    rows += [
        ("queries", f"{status.requests:,}"),
        ("pairs", f"{status.pairs:,}"),
        ("attempts", f"{status.attempts:,}"),
    ]
    if status.ended_at and not status.outcome_kept:
        rows.append(("result", "expired or removed; to score the job again, submit it again"))
    if status.started_at and status.submitted_at:
        rows.append(("queued", f"{status.started_at - status.submitted_at:.3f} s"))
    if status.started_at and status.ended_at:
        rows.append(("ran", f"{status.ended_at - status.started_at:.3f} s"))
    return terminal.name_value_table(rows)


def _overview(now: Snapshot, before: Snapshot | None) -> list[tuple[str, str]]:
    status = now.status
    ended = ", ".join(f"{status.jobs[state]:,} {state}" for state in metrics.ENDS)
    killed, attempts = now.count(metrics.DEATHS), now.count(metrics.ATTEMPTS)
    return [
        ("workers", _workers(status.workers)),
        ("queue depth", _queue(status)),
        ("in flight", f"{status.in_flight:,}"),
        ("unacked", _unacked(status)),
        ("jobs", ended + _per_second(now.rate(before, metrics.JOBS_ENDED, "done"), "done")),
        ("failures", _by_label(status, metrics.FAILURES)),
        ("downgrades", _by_label(status, metrics.DOWNGRADES)),
        ("killed", f"{killed:,.0f} of {attempts:,.0f} attempts"),
        ("dead letters", f"{status.dead_letters:,}"),
        ("Redis memory", _memory(status)),
        *(("warning", each) for each in status.warnings),
    ]


def _workers(answer: Sequence[str]) -> str:
    if not answer:
        return "none"
    more = ", ..." if len(answer) > MAX_NAMES else ""
    return f"{len(answer)} ({', '.join(answer[:MAX_NAMES])}{more})"


def _queue(status: jobs.QueueStatus) -> str:
    waiting = [
        f"{length:,} with priority {step}"
        for step, length in status.queue_lengths.items()
        if length
    ]
    depth = f"{status.queue_depth:,}" + (f" ({', '.join(waiting)})" if waiting else "")
    if status.oldest_queued_s is None:
        return depth
    return f"{depth}, oldest waiting for {status.oldest_queued_s:.1f} s"


def _unacked(status: jobs.QueueStatus) -> str:
    """Return the number of messages that workers hold, with a note about unexplained ones."""
    others = status.unacked - status.in_flight
    if others <= 0:
        return f"{status.unacked:,}"
    return (
        f"{status.unacked:,}, {others:,} without a running job: prefetched, waiting for a retry, or"
        " left by a dead worker. Messages of dead workers expire after RERANKQ_VISIBILITY_TIMEOUT_S"
        " and delay no job"
    )


def _by_label(status: jobs.QueueStatus, counter: Counter) -> str:
    counted = sorted(status.counters.get(counter.name, {}).items())
    return ", ".join(f"{amount:,.0f} {label}" for label, amount in counted if amount) or "0"


def _memory(status: jobs.QueueStatus) -> str:
    used = f"{status.redis_memory_bytes / 2**20:,.1f} MiB"
    most = status.redis_max_memory_bytes
    if not most:
        return f"{used}, no limit"
    return f"{used} of {most / 2**20:,.0f} MiB ({100 * status.redis_memory_bytes / most:.0f}%)"


def _per_second(rate: float | None, what: str = "") -> str:
    return "" if rate is None else f", {rate:,.1f} {what}/s"


def _models(now: Snapshot, before: Snapshot | None) -> terminal.DataTable:
    """Return a table with a column for each model and a row for each counter."""
    models = sorted(now.status.counters[metrics.PAIRS.name])
    columns = [
        terminal.Column(),
        *(terminal.Column(short_name(each), right=True) for each in models),
    ]
    rows = []
    for heading, counter in _MODEL_ROWS:
        rows.append((heading, *(f"{now.count(counter, model):,.0f}" for model in models)))
        if counter in (metrics.PAIRS, metrics.TOKENS):
            speeds = (_speed(now, before, counter, model) for model in models)
            rows.append((f"{heading}/s", *(f"{speed:,.0f}" for speed in speeds)))
    rows.append(("padding", *(f"{_padding_percent(now, model):.1f}%" for model in models)))
    return terminal.DataTable(columns, rows)


def _speed(now: Snapshot, before: Snapshot | None, counter: Counter, model: str) -> float:
    """Return the rate since `before`; without `before`, the rate of one child while it scores."""
    rate = now.rate(before, counter, model)
    if rate is not None:
        return rate
    return now.count(counter, model) / (now.count(metrics.SCORING_S, model) or 1)


def _padding_percent(now: Snapshot, model: str) -> float:
    tokens, padding = now.count(metrics.TOKENS, model), now.count(metrics.PADDING, model)
    return 100 * padding / (tokens + padding or 1)
