"""`python -m tests.prose`: print the faults of all text that people read; exit with 1 if any."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from producer.cli import main as rerankq
from tests.prose import deployment, help, messages, passages, rules, sources

ROOT = Path(__file__).parents[2]
#: The folders whose messages are checked.
PROGRAMS = (
    *("contract", "producer", "worker", "rerankq_*"),
    *("benchmarks", "deploy", "docs", "examples"),
)
#: The folders whose docstrings and comments are checked.
SOURCES = (*PROGRAMS, "tests")
PAGES = (
    "*.md",
    "benchmarks/**/*.md",
    "deploy/*.md",
    "docs/**/*.md",
    "examples/**/*.md",
    "rerankq_*/**/*.md",
)
#: Files whose comments begin with #.
COMMENTED = (
    *(".env.example", "Dockerfile", "Makefile", "constraints.txt", "docker-compose.yml"),
    *(".ci/run", "mkdocs.yml", "pyproject.toml", "deploy/**/*.y*ml", "deploy/*.acl", "deploy/*.sh"),
)
#: Files whose titles and descriptions are checked.
SHOWN = ("deploy/**/*.yml", "deploy/**/*.json")


def main() -> int:
    """Check everything, and return the exit code."""
    avoided = rules.phrases()
    found = [fault for passage in _passages() for fault in rules.faults(passage, avoided)]
    for path in _sources(SOURCES, "py"):
        found += sources.openings(path, _name(path))
    for fault in found:
        print(fault)  # noqa: T201
    return 1 if found else 0


def _passages() -> Iterator[passages.Passage]:
    for path in _sources(SOURCES, "py"):
        yield from sources.docstrings(path, _name(path))
        yield from sources.comments(path, _name(path))
    for path in _sources(SOURCES, "lua"):
        yield from sources.lua_comments(path, _name(path))
    for path in _sources(PROGRAMS, "py"):
        yield from messages.of_python(path, _name(path))
    for path in _files(PAGES):
        yield from passages.of_page(path, _name(path))
    for path in _files(COMMENTED):
        yield from deployment.comments(path, _name(path))
    for path in _sources(("deploy",), "sh"):
        yield from deployment.echoes(path, _name(path))
    for path in _files(SHOWN):
        yield from deployment.shown_values(path, _name(path))
    yield from help.of_command(rerankq, "rerankq")


def _sources(folders: tuple[str, ...], ending: str) -> Iterator[Path]:
    return _files(tuple(f"{folder}/**/*.{ending}" for folder in folders))


def _files(patterns: tuple[str, ...]) -> Iterator[Path]:
    return itertools.chain.from_iterable(sorted(ROOT.glob(each)) for each in patterns)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
