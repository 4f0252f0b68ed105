"""Format figures and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.records import Spread


def table(head: Sequence[str], rows: Iterable[Sequence[str]], rule: str = "---:") -> str:
    """Return a table with the first column aligned left and all others, numbers, right."""
    rules = ("---", *(rule for _ in head[1:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))


def number(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def between(spread: Spread) -> str:
    """Return the lowest and the highest value."""
    return f"{number(spread.low)} to {number(spread.high)}"
