"""Parse one record from each line of a file; an invalid line stops the reader, or is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from contract.errors import InvalidInput
from producer.files import reading
from producer.files.quoting import shown
from producer.formats import detection
from producer.formats.headers import WrongOrder

T = TypeVar("T")
Row = TypeVar("Row", bound=tuple[Any, ...])

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
    parse_block: Callable[[str], Iterable[T] | None] = lambda _: None,
    *,
    arrays: bool = False,
    see: Callable[[bytes], object] | None = None,
) -> Iterator[tuple[int, T]]:
    """Yield the number, from 1, and the parsed record of each line that is not blank.

    `parse` raises `ValueError` with a message about its line. Raises `InvalidInput` as
    `file:line: message`, or adds the message to `bad` if invalid lines are skipped.

    `parse_block` may parse many lines at once, which is faster. It returns None if a line is
    invalid, blank or unusual, and otherwise one record per line, equal to those of `parse`.

    If `arrays` is true, a file may also be a JSON array, whose elements are numbered from 1.

    `see` receives all lines, several at once, the same for each kind of compression and of line
    end.
    """
    is_empty = is_first = True
    blocks = reading.blocks(path, arrays=arrays)
    for begin, block in _first_line_apart(_seen(blocks, see) if see else blocks):
        if not is_first and (records := _parsed(block, parse_block)) is not None:
            yield from enumerate(records, begin)
            continue
        for number, raw in enumerate(block.split(b"\n"), begin):
            hint = None
            try:
                line = decode_line(raw)
                if not line or line.isspace():
                    continue
                is_empty = False
                if is_first:
                    is_first = False
                    hint = detection.mismatch_hint(wanted, line)
                    if not hint and is_header(line):
                        continue
                item = parse(number, line)
            except WrongOrder as error:  # also if invalid lines are skipped
                raise InvalidInput(f"{shown(path)}:{number}: {error}") from error
            except ValueError as error:  # includes InvalidInput
                is_empty = False
                bad.add(f"{shown(path)}:{number}: {error}{f'; {hint.words}' if hint else ''}")
                continue
            if hint and hint.certain:  # the line could be parsed, but as the wrong kind
                raise InvalidInput(f"{shown(path)}:{number}: {hint.words}")
            yield number, item
    if is_empty:
        raise InvalidInput(f"{shown(path)}: the file is empty")


def _seen(
    blocks: Iterable[tuple[int, bytes]], see: Callable[[bytes], object]
) -> Iterator[tuple[int, bytes]]:
    for number, block in blocks:
        see(block.removesuffix(b"\r").replace(b"\r\n", b"\n") if b"\r" in block else block)
        see(b"\n")
        yield number, block


def _first_line_apart(blocks: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield the first line alone, because it may be a header."""
    rest = iter(blocks)
    for number, block in rest:
        first, ended, others = block.partition(b"\n")
        yield number, first
        if ended:
            yield number + 1, others
        break
    yield from rest


def _parsed(block: bytes, parse_block: Callable[[str], Iterable[T] | None]) -> Iterable[T] | None:
    """Return the records of a block without byte order marks and lone carriage returns."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None  # the line is found when the lines are parsed one by one
    if "\r" in text:
        text = text.removesuffix("\r").replace("\r\n", "\n")
    return None if "\r" in text or _BYTE_ORDER_MARK in text else parse_block(text)


def records_of(kind: type[Row], *columns: Iterable[object]) -> Iterator[Row]:
    """Yield the same as `map(kind, *columns)` for named tuples, without a call for each."""
    return map(partial(tuple.__new__, kind), zip(*columns, strict=True))


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
