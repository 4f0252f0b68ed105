"""Print the output of the command line to standard output and standard error.

Control characters in untrusted texts, ids, names and messages are escaped, so that none reaches a
terminal. Piped output is never truncated. On a terminal, only the text of a query or document is
truncated to the width.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TextIO

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from contract.printable import visible, visible_json

#: The width of a console that is not a terminal, so that no line is folded.
UNLIMITED_WIDTH = 1_000_000
#: The minimum width of a column with truncated texts.
MIN_TEXT_WIDTH = 16


def print_line(text: object) -> None:
    """Print a line to standard output."""
    _echo(visible(text))


def print_notice(text: object) -> None:
    """Print a line to standard error, because standard output is for the results of a command."""
    _echo(visible(text), err=True)


def print_error(problem: object) -> None:
    """Print an error to standard error; further lines are indented, to set them off from others."""
    _echo("Error: " + visible(problem, keep="\n").replace("\n", "\n    "), err=True)


def _echo(text: str, *, err: bool = False) -> None:
    # The stream is passed, because click would replace one with ASCII encoding by a UTF-8 stream,
    # and would print to standard output if standard error is closed.
    if (stream := sys.stderr if err else sys.stdout) is not None:
        click.echo(text, stream)


def print_json(document: str) -> None:
    """Print a JSON document as one line, in ASCII if standard output is not UTF-8."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    _echo(visible_json(document, ascii_only=encoding != "utf8"))


def print_data(text: str) -> None:
    """Print data for programs unchanged; on a terminal, escape control characters."""
    click.echo(visible(text, keep="\n") if is_terminal(sys.stdout) else text, sys.stdout, nl=False)


def render(content: RenderableType, *, err: bool = False) -> None:
    """Print one table or several."""
    console(err=err).print(content)


def console(*, err: bool = False) -> Console:
    """Return a console for standard output or standard error."""
    if is_terminal(sys.stderr if err else sys.stdout):
        return Console(stderr=err, highlight=False)
    # A variable such as FORCE_COLOR or COLUMNS must not make rich treat a pipe as a terminal.
    return Console(
        stderr=err, highlight=False, force_terminal=False, width=UNLIMITED_WIDTH, color_system=None
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether the stream is an open terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def occupy_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    The next file that is opened would otherwise get its number: `/dev/stdin` would be that file,
    and what a library prints would be written to it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def tolerate_encodings() -> None:
    """Make the streams print characters that their encoding lacks as escape sequences."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str = ""
    right: bool = False
    #: Whether its texts may be truncated to a terminal's width.
    truncate: bool = False


class DataTable:
    """A table of records; on a terminal that is too narrow, each row becomes several lines."""

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str = ""
    ) -> None:
        self._columns = [replace(column, name=visible(column.name)) for column in columns]
        self._rows = [[visible(value) for value in row] for row in rows]
        self._title = visible(title)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title:
            yield Text(self._title, overflow="fold")
        widths = [self._width(place) for place in range(len(self._columns))]
        total = sum(widths) + 2 * len(widths)  # a space on each side
        for place, column in enumerate(self._columns):
            if column.truncate and total > options.max_width:
                narrow = max(
                    min(MIN_TEXT_WIDTH, widths[place]), widths[place] - total + options.max_width
                )
                total += narrow - widths[place]
                widths[place] = narrow
        fits = total <= options.max_width
        yield from (self._table(widths),) if fits else self._stacked(options.max_width)

    def _width(self, place: int) -> int:
        texts = (self._columns[place].name, *(row[place] for row in self._rows))
        return max(map(cell_len, texts))

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(box=None, show_header=any(column.name for column in self._columns))
        for column, width in zip(self._columns, widths, strict=True):
            side: Literal["left", "right"] = "right" if column.right else "left"
            table.add_column(Text(column.name), justify=side, no_wrap=True, width=width)
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table

    def _stacked(self, width: int) -> Iterator[Text]:
        for row in self._rows:
            yield Text(f"{self._columns[0].name} {row[0]}".strip(), overflow="fold")
            packed = ""
            for column, value in zip(self._columns[1:], row[1:], strict=True):
                part = f"{column.name} {value}".strip()
                if packed and (column.truncate or cell_len(f"  {packed}, {part}") > width):
                    yield Text(f"  {packed}", overflow="fold")
                    packed = ""
                if column.truncate:
                    yield Text(f"  {part}", no_wrap=True, overflow="ellipsis")
                else:
                    packed = f"{packed}, {part}" if packed else part
            if packed:
                yield Text(f"  {packed}", overflow="fold")


def name_value_table(pairs: Sequence[tuple[str, str]]) -> Table:
    """Return a table of names and values; values are folded, never truncated."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(visible(value)))
    return table
