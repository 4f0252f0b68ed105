"""Piped output is complete, and so is a terminal's, except for texts of documents."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from producer.cli import terminal
from producer.cli.terminal import Column, DataTable

Piped = Callable[[str], tuple[io.BytesIO, io.BytesIO]]

ID, MODEL, TEXT = "9f2c1d7e-5a9b-4c3f-8d21-0123456789ab", "cross-encoder/some-model" * 2, "語 " * 50
COLUMNS = [
    Column("job"),
    Column("pairs", right=True),
    Column("model"),
    Column("text", truncate=True),
]
ROWS = [(ID, "1,234,567", MODEL, TEXT), ("short", "7", "m", "")]


def at_terminal(content: DataTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200, 1_000])
def test_a_terminal_of_any_width_shows_all_but_a_text_whole(width: int) -> None:
    lines = at_terminal(DataTable(COLUMNS, ROWS), width)

    said = "".join("".join(lines).split())
    for value in (ID, "1,234,567", MODEL):
        assert value in said
    assert all(cell_len(line) <= width for line in lines)
    assert (said.count("語") == TEXT.count("語")) == (width == 1_000)


def test_a_wide_terminal_has_a_row_a_line() -> None:
    header, first, second = at_terminal(DataTable(COLUMNS, ROWS), 200)

    assert header.split() == ["job", "pairs", "model", "text"]
    assert first.split()[:3] == [ID, "1,234,567", MODEL]
    assert second.split() == ["short", "7", "m"]


def test_a_narrow_terminal_has_the_names_beside_the_values() -> None:
    lines = at_terminal(
        DataTable([Column("job"), Column("pairs"), Column("code")], [(ID, "7", "x")]), 40
    )

    assert [line.rstrip() for line in lines] == [
        f"job {ID}",
        "  pairs 7, code x",
    ]


def test_what_others_wrote_is_visible_in_a_table() -> None:
    harmful = "\x1b[31m\u202e\n[bold]"
    for content in (DataTable([Column(harmful), Column()], [(harmful, harmful)], title=harmful),):
        for width in (20, 200):
            lines = at_terminal(content, width)
            assert "".join(lines).isprintable()
            assert "[bold]" in "".join(lines)


# Piped output


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Piped:
    """Replace standard output and error with streams in an encoding that are not terminals."""

    def replace(encoding: str) -> tuple[io.BytesIO, io.BytesIO]:
        written = io.BytesIO(), io.BytesIO()
        for name, content in zip(("stdout", "stderr"), written, strict=True):
            stream = io.TextIOWrapper(content, encoding=encoding, write_through=True)
            monkeypatch.setattr(sys, name, stream)
        return written

    return replace


def print_table() -> None:
    columns = [Column("job"), Column("model"), Column("text", truncate=True)]
    terminal.render(DataTable(columns, [(ID, MODEL, TEXT)]))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"COLUMNS": "40"},
        {"FORCE_COLOR": "1"},
        {"FORCE_COLOR": "1", "COLUMNS": "40"},
        {"NO_COLOR": "1"},
        {"TERM": "dumb"},
        {"TTY_COMPATIBLE": "1"},
    ],
)
def test_what_is_piped_is_whole_and_plain(
    environment: dict[str, str], piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stdout, _ = piped("utf-8")
    print_table()
    header, line = stdout.getvalue().decode().splitlines()

    assert header.split() == ["job", "model", "text"]
    assert line.split() == [ID, MODEL, *TEXT.split()]
    assert line.isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_a_character_has_its_escape_sequence(
    encoding: str, piped: Piped
) -> None:
    text = "naïve 語 😀"
    stdout, stderr = piped(encoding)
    terminal.tolerate_encodings()
    terminal.print_line(text)
    terminal.print_notice(text)
    terminal.print_json(f'{{"id": "{text}"}}')

    line, data = stdout.getvalue().splitlines()
    assert line == text.encode(encoding, "backslashreplace")
    assert json.loads(data.decode(encoding)) == {"id": text}
    assert stderr.getvalue() == text.encode(encoding, "backslashreplace") + b"\n"


def test_a_closed_standard_output_is_no_traceback(
    piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stderr = piped("utf-8")
    monkeypatch.setattr(sys, "stdout", None)
    terminal.print_line("x")
    print_table()

    assert stderr.getvalue() == b""


def test_a_closed_standard_error_sends_nothing_to_standard_output(
    piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout, _ = piped("utf-8")
    monkeypatch.setattr(sys, "stderr", None)
    terminal.print_notice("x")
    terminal.print_error("x")

    assert stdout.getvalue() == b""


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    script = (
        "import sys; from producer.cli import terminal; terminal.occupy_closed_streams();"
        " sys.exit(open(sys.executable).fileno())"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} <&- 2>&-"

    assert subprocess.run(["bash", "-c", command], check=False).returncode == 3  # noqa: S607


SCRIPT = """
from producer.cli import terminal
terminal.tolerate_encodings()
terminal.print_line("naïve 語")
terminal.render(terminal.DataTable([terminal.Column("語")], [("naïve",)]))
"""


def test_the_streams_of_a_process_are_treated_alike() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "FORCE_COLOR": "1"},
        capture_output=True,
        check=True,
        timeout=60,
    )

    line, header, value = done.stdout.split(b"\n", 2)
    assert line == rb"na\xefve \u8a9e"
    assert header.split() == [rb"\u8a9e"]
    assert value.split() == [rb"na\xefve"]
    assert done.stderr == b""


def test_an_error_of_many_lines_cannot_be_taken_for_several(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal.print_error("one\nError: two\x1b")

    assert capsys.readouterr().err == "Error: one\n    Error: two\\x1b\n"
