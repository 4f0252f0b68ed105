"""Readers of TREC runs for tests."""

from __future__ import annotations

from pathlib import Path


def read_run(path: Path) -> list[tuple[str, str, int, float, str]]:
    """Return query, document, rank, score and tag of each line."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [
        (query, document, int(rank), float(score), tag)
        for query, _, document, rank, score, tag in lines
    ]
