"""Flower's table shows a task by the events that Flower has received."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from celery import states

from contract.errors import OutOfMemory
from worker.monitoring import flower, flower_format
from worker.runtime.settings import WorkerSettings

SUMMARY = {
    "model": "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "downgraded": False,
    "pairs": 1000,
    "pairs_per_s": 86.6,
    "truncated": 0,
    "seconds": 11.547,
}


def shown(state: str = states.SUCCESS, result: object = None, error: object = None) -> object:
    """Return a task as Flower has it: representations, in the fields of Celery's own record."""
    task = SimpleNamespace(
        state=state,
        result=None if result is None else repr(result),
        exception=None if error is None else repr(error),
    )
    return flower_format.format_task(task).result


def test_a_result_is_a_short_line() -> None:
    expected = "ms-marco-MiniLM-L-6-v2: 1,000 pairs, 87/s, 11.55 s"

    assert shown(result=SUMMARY) == expected


def test_it_says_if_it_was_downgraded_and_how_many_documents_were_cut() -> None:
    made = SUMMARY | {"model": "small", "downgraded": True, "truncated": 3}

    expected = "small (downgraded): 1,000 pairs, 87/s, 3 truncated, 11.55 s"
    assert shown(result=made) == expected


@pytest.mark.parametrize("result", ["some text", 7, {"model": "x"}, [SUMMARY], object()])
def test_a_result_of_another_kind_is_shown_as_it_is(result: object) -> None:
    assert shown(result=result) == repr(result)


def test_a_task_that_has_no_result_yet_shows_none() -> None:
    assert shown(states.STARTED) is None


@pytest.mark.parametrize(
    "message", ["no room", "it's full", 'a "quoted" word', 'it\'s "both"', "two\n  lines", ""]
)
def test_a_failure_shows_why_in_one_line(message: str) -> None:
    said = shown(states.FAILURE, error=OutOfMemory(message))

    assert isinstance(said, str)
    assert said.startswith("OutOfMemory")
    assert "\n" not in said
    assert said.split()[1:] == message.split()


def test_a_failure_without_a_word_shows_nothing() -> None:
    assert shown(states.FAILURE) == ""


def test_a_failure_that_flower_has_in_part_only_is_shown_as_it_is() -> None:
    task = SimpleNamespace(state=states.FAILURE, result=None, exception="OutOfMemory('it is...")

    assert flower_format.format_task(task).result == "OutOfMemory('it is..."


def test_a_variable_that_is_empty_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "BASIC_AUTH", "PORT", "DB"):
        monkeypatch.setenv(f"FLOWER_{name}", "")

    flower.set_defaults(WorkerSettings())

    assert os.environ["FLOWER_ADDRESS"] == "127.0.0.1"
    assert os.environ["FLOWER_DB"]
    assert not {"FLOWER_BASIC_AUTH", "FLOWER_PORT"} & os.environ.keys()


def test_no_column_shows_what_somebody_sent_as_html() -> None:
    """Flower shows escaped text in the column for exceptions, but not in the one for results."""
    columns = flower.defaults(WorkerSettings())["tasks_columns"].split(",")

    assert "result" in columns
    assert "exception" not in columns
