"""`python -m tests.prose`: print each fault of the pages, and end with 1 if there is one."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.prose import passages, rules

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "deploy/README.md", "benchmarks/README.md")


def main() -> int:
    """Check all pages, and return the exit code."""
    avoided = rules.phrases()
    found = [
        fault
        for pattern in PAGES
        for page in sorted(ROOT.glob(pattern))
        for passage in passages.of_page(page, str(page.relative_to(ROOT)))
        for fault in rules.faults(passage, avoided)
    ]
    for fault in found:
        print(fault)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
