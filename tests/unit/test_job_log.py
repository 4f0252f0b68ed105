"""A change of a job is one line: a sentence for people, and fields for programs."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from worker.monitoring import job_log
from worker.monitoring.job_log import Event, JobFields
from worker.monitoring.log_format import TextFormatter, json_formatter

FIELDS: JobFields = {"pairs": 4_000, "model": "cross-encoder/tiny", "attempts": 2}


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(
    ("event", "more", "code", "reason", "sentence"),
    [
        (Event.RUNNING, {}, None, None, "running: 4,000 pairs with tiny, attempt 2"),
        (
            Event.DONE,
            {"seconds": 2.0, "truncated": 0},
            None,
            None,
            "done: 4,000 pairs with tiny in 2.000 s (2,000 pairs/s), attempt 2",
        ),
        (
            Event.DONE,
            {"seconds": 0.0, "truncated": 7},
            "worker_died",
            "downgraded from large",
            "done: 4,000 pairs with tiny in 0.000 s, 7 truncated, attempt 2 (worker_died):"
            " downgraded from large",
        ),
        (
            Event.FAILED,
            {"seconds": 0.5},
            "bad_scores",
            "NaN",
            "failed: 4,000 pairs with tiny after 0.500 s, attempt 2 (bad_scores): NaN",
        ),
    ],
)
def test_a_line_says_all_that_is_known(
    caplog: pytest.LogCaptureFixture,
    event: Event,
    more: JobFields,
    code: str | None,
    reason: str | None,
    sentence: str,
) -> None:
    job_log.log(event, "one", FIELDS | more, code=code, reason=reason)

    assert caplog.messages == [f"Job one {sentence}"]


def test_a_job_of_which_nothing_is_known_has_a_line_too(caplog: pytest.LogCaptureFixture) -> None:
    job_log.log(Event.SKIPPED, "one")

    assert caplog.messages == ["Job one skipped"]


def test_an_error_of_many_lines_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    job_log.log(Event.FAILED, "one", reason="this\n  and\nthat")

    assert caplog.messages == ["Job one failed: this and that"]


def test_only_what_somebody_may_want_to_look_into_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for event in Event:
        job_log.log(event, "one")

    warned = {each.getMessage() for each in caplog.records if each.levelno == logging.WARNING}
    assert warned == {
        f"Job one {each}" for each in ("failed", "downgraded", "interrupted", "resent")
    }
    assert {each.levelno for each in caplog.records} == {logging.INFO, logging.WARNING}


def test_json_has_the_fields_as_keys_and_not_what_is_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_log.log(Event.RUNNING, "one", FIELDS, reason="why")

    said = json.loads(json_formatter().format(caplog.records[0]))
    assert {key: said[key] for key in ("event", "job_id", *FIELDS, "reason")} == {
        "event": "running",
        "job_id": "one",
        **FIELDS,
        "reason": "why",
    }
    assert said.keys().isdisjoint({"code", "seconds"})


def test_json_of_an_error_is_one_line_that_holds_its_traceback() -> None:
    try:
        raise ValueError("of two\nlines")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 0, "%s ü", ("x",), sys.exc_info())

    line = json_formatter().format(record)

    assert "\n" not in line
    said = json.loads(line)
    assert next(iter(said)) == "time"
    assert said["time"].endswith("+00:00")
    assert (said["level"], said["logger"], said["message"]) == ("ERROR", "a.b", "x ü")
    assert said["exc_info"].endswith("ValueError: of two\nlines")


def test_what_others_wrote_forges_no_line_of_the_log() -> None:
    line = "[2026-01-01 00:00:00,000: INFO/Main] Job two done"
    try:
        raise ValueError(f"\x1b[31m\n{line}")
    except ValueError:
        record = logging.LogRecord(
            "a.b", logging.ERROR, "", 0, "Job %s failed", (f"one\r\n{line}\u202e",), sys.exc_info()
        )
    made = TextFormatter(logging.Formatter("[%(levelname)s] %(message)s")).format(record)

    assert [shown for shown in made.splitlines() if not shown.startswith("    ")] == [
        "[ERROR] Job one\\r"
    ]
    assert made.replace("\n", "").isprintable()
    assert made.endswith(f"    ValueError: \\x1b[31m\n    {line}")
    # And other handlers have it as it was
    assert record.exc_text is None
    assert record.args
