"""Parse one record from each line of a file; an invalid line stops the reader, or is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from contract.errors import InvalidInput
from producer.files import reading
from producer.files.quoting import shown
from producer.formats import detection

T = TypeVar("T")

_BYTE_ORDER_MARK = "\ufeff"


@dataclass
class InvalidLines:
    """The policy for invalid lines: stop at the first one, or skip and count them."""

    skip: bool = False
    count: int = 0
    #: The messages of the first few.
    examples: list[str] = field(default_factory=list)

    def add(self, message: str, *, lines: int = 1) -> None:
        """Count an invalid line. Raises `InvalidInput` unless invalid lines are skipped."""
        if not self.skip:
            raise InvalidInput(message)
        self.count += lines
        if len(self.examples) < 5:
            self.examples.append(message)


def read_records(
    path: str,
    parse: Callable[[int, str], T],
    bad: InvalidLines,
    wanted: detection.FileKind,
    is_header: Callable[[str], bool] = lambda _: False,
) -> Iterator[tuple[int, T]]:
    """Yield the number, from 1, and the parsed record of each line that is not blank.

    `parse` raises `ValueError` with a message about its line. Raises `InvalidInput` as
    `file:line: message`, or adds the message to `bad` if invalid lines are skipped.
    """
    empty = first = True
    for number, raw in reading.lines(path):
        hint = None
        try:
            line = decode_line(raw)
            if not line or line.isspace():
                continue
            empty = False
            if first:
                first = False
                hint = detection.mismatch_hint(wanted, line)
                if not hint and is_header(line):
                    continue
            item = parse(number, line)
        except ValueError as error:  # includes InvalidInput
            empty = False
            bad.add(f"{shown(path)}:{number}: {error}{f'; {hint.words}' if hint else ''}")
            continue
        if hint and hint.certain:  # the line could be parsed, but as the wrong kind
            raise InvalidInput(f"{shown(path)}:{number}: {hint.words}")
        yield number, item
    if empty:
        raise InvalidInput(f"{shown(path)}: the file is empty")


def decode_line(raw: bytes) -> str:
    """Return a line without its line end and without a byte order mark.

    Concatenated files have byte order marks within.
    """
    try:
        line = raw.decode().strip("\r\n")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode()) + 1
        raise ValueError(
            f"byte 0x{raw[error.start]:02x} in column {column} is not valid UTF-8; convert the"
            " file, for example with `iconv -f WINDOWS-1252 -t UTF-8`"
        ) from error
    return line.lstrip(_BYTE_ORDER_MARK) if line.startswith(_BYTE_ORDER_MARK) else line
