"""`python -m tests.prose`: print the faults of pages and source code; exit with 1 if any."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.prose import passages, rules, sources

ROOT = Path(__file__).parents[2]
#: The folders whose docstrings and comments are checked.
SOURCES = ("contract", "producer", "worker", "rerankq_bundled_model", "benchmarks", "deploy")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "deploy/README.md", "benchmarks/README.md")


def main() -> int:
    """Check all pages and sources, and return the exit code."""
    avoided = rules.phrases()
    found = [fault for passage in _passages() for fault in rules.faults(passage, avoided)]
    found += [fault for path in _sources("py") for fault in sources.openings(path, _name(path))]
    for fault in found:
        print(fault)  # noqa: T201
    return 1 if found else 0


def _passages() -> Iterator[passages.Passage]:
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            yield from passages.of_page(page, _name(page))
    for path in _sources("py"):
        yield from sources.docstrings(path, _name(path))
        yield from sources.comments(path, _name(path))
    for path in _sources("lua"):
        yield from sources.lua_comments(path, _name(path))


def _sources(ending: str) -> Iterator[Path]:
    for folder in SOURCES:
        yield from sorted((ROOT / folder).rglob(f"*.{ending}"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
