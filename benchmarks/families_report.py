"""Format the comparison of families as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import machine
from benchmarks.markdown import between, number, table
from benchmarks.records import FamilyScored


def page(described: dict[str, Any], records: Sequence[FamilyScored], failed: Sequence[str]) -> str:
    """Return the page of a run."""
    load = f"The load average was {described['load_average']} at the start."
    parts = [f"{machine.title(described)}. {load}", families(records)]
    parts += [f"Not measured: {each}." for each in failed]
    return "\n\n".join(part for part in parts if part) + "\n"


def families(records: Sequence[FamilyScored]) -> str:
    """Return the table with its title, or nothing without records."""
    if not records:
        return ""
    return (
        "### Other families, real documents\n\nThe models have random weights. *Ratio* is relative"
        " to `predict` at its best batch size, with the lowest and the highest of all repeats."
        " *Deviation* is that of the scores, to compare the difference with.\n\n"
    ) + table(
        (
            "model",
            "pairs per repeat",
            "rerankq, pairs/s",
            "`predict`, pairs/s",
            "best batch",
            "ratio",
            "scores differ by",
            "deviation",
        ),
        [
            (
                each.title,
                str(each.pairs),
                f"{number(each.pairs_per_s.median)} ({between(each.pairs_per_s)})",
                f"{number(each.predict_pairs_per_s.median)} ({between(each.predict_pairs_per_s)})",
                str(each.predict_batch),
                f"{each.ratio.median:.2f} ({each.ratio.low:.2f} to {each.ratio.high:.2f})",
                f"{each.max_difference:.0e}",
                f"{each.deviation:.0e}",
            )
            for each in records
        ],
    )
