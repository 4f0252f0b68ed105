"""The checks of prose read what programs print: messages, help, scripts, alerts and dashboards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.prose import deployment, help, messages
from tests.prose.passages import Passage

Reader = Callable[[Path, str], Iterator[Passage]]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Reader, str], list[str]]:
    def of(reader: Reader, text: str) -> list[str]:
        path = tmp_path / "file"
        path.write_text(text)
        return [f"{each.place} {each.text}" for each in reader(path, "file")]

    return of


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise Error(f"job {job!r} has " "ended")', "job code has ended"),
        ('log.info("%s of %(all)d jobs ended")', "code of code jobs ended"),
        ('"{} is not a job".format(job)', "code is not a job"),
        ('x: int = Field(1, description="How many jobs")', "How many jobs"),
        ("f'{\"one two three\" if one else 2}'", "one two three"),
    ],
)
def test_messages_are_passages_with_code_in_place_of_expressions(
    source: str, expected: str, read: Callable[[Reader, str], list[str]]
) -> None:
    assert read(messages.of_python, f"1\n{source}\n")[-1] == f"file:2 {expected}"


@pytest.mark.parametrize(
    "source",
    [
        'def end():\n    """End a job now."""\n',
        'run("SELECT id FROM jobs")',
        'x = {"two words": "some-name.txt"}',
    ],
)
def test_docstrings_sql_and_names_are_no_messages(
    source: str, read: Callable[[Reader, str], list[str]]
) -> None:
    assert read(messages.of_python, source) == []


def test_help_is_that_of_all_commands_and_options() -> None:
    option = click.Option(["-n", "--namespace"], help="Begins every `key`.")
    end = click.Command("end", help="End a job.\n\n\b\nrerankq end  JOB", params=[option])
    group = click.Group("rerankq", commands=[end], epilog="Exit codes follow.")

    found = [f"{each.place}: {each.text}" for each in help.of_command(group, "rerankq")]

    assert found == [
        "rerankq --help: Exit codes follow.",
        "rerankq end --help: End a job.",
        "rerankq end -n: Begins every code.",
    ]


def test_consecutive_comments_are_one_passage_without_tables(
    read: Callable[[Reader, str], list[str]],
) -> None:
    text = "#!/bin/sh\n# One line\n# and another.\nset -eu\n# make up   start it\n#off=1\n"
    assert read(deployment.comments, text) == ["file:2 One line and another."]


def test_what_a_script_prints_is_a_passage(read: Callable[[Reader, str], list[str]]) -> None:
    text = 'echo "no folder ${MODELS:-here}" >&2; echo -n \'a "b"\'\n'
    assert read(deployment.echoes, text) == ["file:1 no folder code", 'file:1 a "b"']


def test_titles_and_descriptions_are_passages_whatever_the_format(
    read: Callable[[Reader, str], list[str]],
) -> None:
    alerts = "rules:\n- alert: A\n  annotations:\n    summary: Redis {{ $value }}\n      is down\n"
    assert read(deployment.shown_values, alerts) == ["file:4 Redis code is down"]
    assert read(deployment.shown_values, '{"panels": [{"title": "Jobs"}]}') == ["file:1 Jobs"]
