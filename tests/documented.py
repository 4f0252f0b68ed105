"""The commands and programs that pages show, and the output that they show for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: A shown line that represents any number of lines.
OMITTED = "..."

#: What differs from run to run, and its replacement in comparisons.
_VARYING = (
    (re.compile(r"\d[\d,.]* s\b"), "N s"),
    (re.compile(r"\d[\d,]* pairs/s"), "N pairs/s"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"rerankq:[^@\s]+@"), "rerankq:PASSWORD@"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"(\d\.\d{3})\d+"), r"\1"),  # more digits than different CPUs agree on
    (re.compile(r"\s+"), " "),
)
#: Lines that only slow machines print.
_WAITS = re.compile(r"(waiting \(|loading )")


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines shown below it."""

    text: str
    shown: tuple[str, ...]


def commands(page: str) -> list[Command]:
    """Return the commands of all console blocks of a page, in order."""
    return [each for block in _blocks(page, "console") for each in _commands(block)]


def command(page: str, text: str) -> Command:
    """Return one command of a page."""
    (found,) = (each for each in commands(page) if each.text == text)
    return found


def program(page: str) -> str:
    """Return all Python blocks of a page as one program."""
    return "\n".join(_blocks(page, "python"))


def texts(page: str) -> list[str]:
    """Return the blocks of a page that show what a program prints."""
    return list(_blocks(page, "text"))


def comparable(lines: str) -> list[str]:
    """Return the lines without what differs from run to run."""
    return [
        _constant(line) for line in lines.splitlines() if line.strip() and not _WAITS.match(line)
    ]


def matches(shown: list[str], printed: list[str]) -> bool:
    """Return whether the shown lines are the printed ones, apart from those that are omitted."""
    if not shown:
        return not printed
    if shown[0] == OMITTED:
        return any(matches(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    return printed[:1] == shown[:1] and matches(shown[1:], printed[1:])


def missing(shown: tuple[str, ...], printed: str) -> set[str]:
    """Return the shown lines that were not printed, in any order."""
    return {*comparable("\n".join(shown))} - {*comparable(printed)} - {OMITTED}


def _constant(line: str) -> str:
    for pattern, constant in _VARYING:
        line = pattern.sub(constant, line)
    return line.strip()


def _blocks(page: str, language: str) -> Iterator[str]:
    text = (ROOT / page).read_text()
    yield from re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _commands(block: str) -> Iterator[Command]:
    for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = entry.splitlines()
        length = 1
        if here := re.search(r"<< ?'(\w+)'$", lines[0]):
            length = lines.index(here[1]) + 1
        while lines[length - 1].endswith("\\"):
            length += 1
        yield Command("\n".join(lines[:length]), tuple(lines[length:]))
