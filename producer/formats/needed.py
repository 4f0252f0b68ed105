"""Parse only the records of a file that are needed, according to their ids.

A shard of a run needs a part of its files. To split a line at the end of its id takes a fraction of
the time of parsing it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from producer.formats import values

T = TypeVar("T")

#: The beginning of a line of JSON, up to the value of its first key.
_FIRST_KEY = re.compile(r'\{ ?"(\w+)": ?"')


@dataclass(frozen=True)
class Needed:
    """The records of a file that a reader must parse.

    Readers yield None for a record that is not needed, or parse it all the same. They check no more
    than its id.
    """

    #: Returns which of the ids are needed.
    which: Callable[[Collection[str]], Collection[str]]
    #: Receives the contents of the whole file, a part at a time.
    see: Callable[[bytes], object]


def parse_needed(
    block: str,
    ids: list[str] | None,
    needed: Needed,
    parse: Callable[[int, str], T],
    parse_lines: Callable[[str], Iterable[T] | None] = lambda _: None,
) -> Iterable[T | None] | None:
    """Return a record for each line of a block, with None for those that are not needed.

    `ids` are those of the lines; None if they are not known, so that all lines are parsed. `parse`
    and `parse_lines` are those of `read_records`.
    """
    if ids is None or not values.are_identifiers(distinct := list(dict.fromkeys(ids))):
        return parse_lines(block)
    wanted = needed.which(distinct)
    if not wanted:
        return [None] * len(ids)
    places = [place for place, each in enumerate(ids) if each in wanted]
    lines = block.split("\n")
    lines = [lines[place] for place in places]
    made = parse_lines("\n".join(lines))
    if made is None:
        try:
            made = [parse(0, line) for line in lines]
        except ValueError:
            return None  # the line is found when all are parsed
    records: list[T | None] = [None] * len(ids)
    for place, record in zip(places, made, strict=True):
        records[place] = record
    return records


def first_columns(block: str, separator: str, columns: int) -> list[str] | None:
    """Return the first column of each line; None unless there may be as many columns in each."""
    lines = block.split("\n")
    if block.count(separator) != (columns - 1) * len(lines) or "\n{" in block or block[0] == "{":
        return None
    return [line.partition(separator)[0].strip() for line in lines]


def first_values(block: str, keys: tuple[str, ...]) -> list[str] | None:
    """Return the value of the first key of each line of JSON.

    None unless the key is the same in all lines, is one of `keys`, and comes before the others of
    `keys` in that order, if those occur at all.
    """
    found = _FIRST_KEY.match(block)
    if found is None or found[1] not in keys:
        return None
    before = keys[: keys.index(found[1])]
    parts = block[found.end() :].split(f"\n{found[0]}")
    if len(parts) != block.count("\n") + 1 or any(f'"{key}"' in block for key in before):
        return None
    ids = [part.partition('"')[0] for part in parts]
    return None if "\\" in "".join(ids) else ids
