"""The figures that the benchmark on a GPU requires on an H100 or an H200."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """A figure and its limit: at least that, or at most if `at_most` is true."""

    title: str
    limit: float
    #: Returns the figure; raises `KeyError` if it was not measured.
    figure: Callable[[Results], float]
    form: str = "{:,.0f}"
    at_most: bool = False

    def row(self, results: Results) -> str:
        """Return a row of a table: what is required, what was measured, and the verdict."""
        required = ("at most " if self.at_most else "at least ") + self.form.format(self.limit)
        try:
            measured = self.figure(results)
        except KeyError:
            return f"| {self.title} | {required} | | not measured |"
        is_met = measured <= self.limit if self.at_most else measured >= self.limit
        verdict = "met" if is_met else "**missed**"
        return f"| {self.title} | {required} | {self.form.format(measured)} | {verdict} |"


def rows(results: Results) -> Iterator[str]:
    """Yield a row for each bar."""
    return (bar.row(results) for bar in BARS)


def _of(model: str, name: str) -> Callable[[Results], float]:
    return lambda results: float(results["models"][model][name])


def _share(processes: int) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        shares = {each["processes"]: float(each["share"]) for each in results["queue"]}
        return shares[processes]

    return figure


BARS = (
    Bar("BERT, 6 layers x 384: pairs/s", 60_000, _of("minilm-6", "pairs_per_s")),
    Bar("... times `predict`", 10, _of("minilm-6", "ratio"), "{:.1f}"),
    Bar(
        "... difference to float32",
        2e-3,
        _of("minilm-6", "max_difference"),
        "{:.1e}",
        at_most=True,
    ),
    Bar("BERT, 12 layers x 384: pairs/s", 40_000, _of("minilm-12", "pairs_per_s")),
    Bar("BERT, 2 layers x 128: pairs/s", 80_000, _of("tinybert-2", "pairs_per_s")),
    Bar("ModernBERT, 7 layers x 256: pairs/s", 40_000, _of("ettin-17m", "pairs_per_s")),
    Bar("XLM-R, 24 layers x 1,024: times `predict`", 1.5, _of("xlm-r-large", "ratio"), "{:.1f}"),
    Bar("Through Redis, one process: share of 6 layers alone", 0.6, _share(1), "{:.0%}"),
    Bar("... four processes", 0.8, _share(4), "{:.0%}"),
)
