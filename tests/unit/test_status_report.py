"""`rerankq status` shows the state of the service."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from contract import jobs, metrics
from contract.jobs import JobState
from producer.cli import status_report


def look(
    at_s: float = 0.0, counted: Mapping[str, float] | None = None, **fields: Any
) -> status_report.Snapshot:
    """Return the service with some counts, by their fields in Redis."""
    reply = {field.encode(): str(amount).encode() for field, amount in (counted or {}).items()}
    status = jobs.QueueStatus(
        **{
            "workers": (),
            "queue_depth": 0,
            "queue_lengths": {0: 0, 3: 0, 6: 0, 9: 0},
            "oldest_queued_s": None,
            "in_flight": 0,
            "unacked": 0,
            "jobs": dict.fromkeys(JobState, 0),
            "pairs": {},
            "dead_letters": 0,
            "redis_memory_bytes": 3 * 2**20,
            "redis_max_memory_bytes": 0,
            "counters": metrics.totals(reply),
        }
        | fields
    )
    return status_report.Snapshot(status, at_s)


def shown(
    now: status_report.Snapshot, before: status_report.Snapshot | None = None, trouble: str = ""
) -> dict[str, str]:
    """Return the rest of each line, by its first words."""
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(status_report.service_report(now, before, trouble))
    lines = [line.strip().partition("  ") for line in console.export_text().splitlines()]
    return {first: rest.strip() for first, _, rest in lines if first}


def test_an_unused_service_shows_zeros_and_no_models() -> None:
    lines = shown(look())

    assert lines["workers"] == "none"
    assert lines["queue depth"] == "0"
    assert lines["jobs"] == "0 done, 0 failed, 0 cancelled"
    assert (lines["failures"], lines["downgrades"]) == ("0", "0")
    assert lines["Redis memory"] == "3.0 MiB, no limit"
    assert "pairs" not in lines


def test_what_waits_is_shown_by_priority_with_the_age_of_the_oldest() -> None:
    lengths = {0: 0, 3: 20, 6: 1_000, 9: 0}

    lines = shown(look(queue_depth=1_020, queue_lengths=lengths, oldest_queued_s=12.34))

    expected = "1,020 (20 with priority 3, 1,000 with priority 6), oldest waiting for 12.3 s"
    assert lines["queue depth"] == expected


def test_messages_that_no_running_job_accounts_for_are_explained() -> None:
    assert shown(look(unacked=2, in_flight=2))["unacked"] == "2"

    said = shown(look(unacked=3, in_flight=1))["unacked"]

    assert said.startswith("3, 2 without a running job: prefetched, ")
    assert "left by a dead worker" in said


def test_rates_are_those_since_the_look_before() -> None:
    pairs, done = metrics.PAIRS.field("a/model"), metrics.JOBS_ENDED.field("done")
    before = look(10.0, {pairs: 100, done: 1})
    now = look(12.0, {pairs: 500, done: 4})

    lines = shown(now, before)

    assert (lines["pairs"], lines["pairs/s"]) == ("500", "200")
    assert lines["jobs"].endswith(", 1.5 done/s")


def test_without_a_look_before_the_rate_is_that_of_a_child_while_it_scores() -> None:
    counted = {metrics.PAIRS.field("a/model"): 500, metrics.SCORING_S.field("a/model"): 2.5}

    assert shown(look(counted=counted))["pairs/s"] == "200"


def test_counters_that_were_lost_give_no_rate_below_zero() -> None:
    pairs = metrics.PAIRS.field("a/model")

    assert shown(look(2.0, {pairs: 1}), look(1.0, {pairs: 900}))["pairs/s"] == "0"


def test_each_model_has_a_column_with_its_short_name() -> None:
    counted = {metrics.PAIRS.field("a/model"): 5, metrics.PAIRS.field("other"): 7}

    lines = shown(look(counted=counted))

    assert lines["model"] == "other"  # the heading: "model  other"
    assert lines["pairs"].split() == ["5", "7"]
    assert lines["out of memory"].split() == ["0", "0"]


def test_padding_is_a_share_of_all_that_was_computed() -> None:
    model = "m"
    counted = {
        metrics.PAIRS.field(model): 1,
        metrics.TOKENS.field(model): 75,
        metrics.PADDING.field(model): 25,
    }

    assert shown(look(counted=counted))["padding"] == "25.0%"


def test_failures_and_downgrades_are_shown_by_reason() -> None:
    counted = {
        metrics.FAILURES.field("out_of_memory"): 2,
        metrics.FAILURES.field("bad_scores"): 1,
        metrics.DOWNGRADES.field("time_limit"): 3,
    }

    lines = shown(look(counted=counted))

    assert lines["failures"] == "1 bad_scores, 2 out_of_memory"
    assert lines["downgrades"] == "3 time_limit"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "1 (w0)"), (6, "6 (w0, w1, w2, w3, w4, w5)"), (50, "50 (w0, w1, w2, w3, w4, w5, ...)")],
)
def test_of_many_workers_some_names_are_shown(number: int, expected: str) -> None:
    assert shown(look(workers=tuple(f"w{n}" for n in range(number))))["workers"] == expected


def test_memory_is_shown_with_its_limit() -> None:
    assert (
        shown(look(redis_max_memory_bytes=12 * 2**20))["Redis memory"] == "3.0 MiB of 12 MiB (25%)"
    )


def test_trouble_stands_above_what_was_seen_last() -> None:
    assert next(iter(shown(look(), trouble="Error: no Redis"))) == "Error: no Redis"
