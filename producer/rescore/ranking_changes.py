"""Measure the differences between two rankings of the same documents, per query and overall."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

#: The number of best documents to compare, as users see them.
TOP = 10
#: The number of queries to show: those that changed most, and those that failed.
EXAMPLES = 5

#: The scores of a query's documents by their ids, best first.
DocumentScores = dict[str, float]


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """Return the share of `a`'s ten best that are among `b`'s ten best, from 0 to 1.

    If a list has fewer than ten, the length of the shorter list is used for both.
    """
    depth = min(TOP, len(a), len(b))
    return len(set(a[:depth]) & set(b[:depth])) / depth


def kendall_tau(a: Sequence[str], b: Sequence[str]) -> float | None:
    """Return Kendall's tau of two orders of the same documents: 1 is the same, -1 the reverse.

    Equal scores count in the order of their ranks. None for fewer than two documents.
    """
    place = {document: at for at, document in enumerate(b)}
    passed: list[int] = []
    swapped = 0
    for document in a:
        at = bisect_left(passed, place[document])
        swapped += len(passed) - at
        passed.insert(at, place[document])
    pairs = len(a) * (len(a) - 1) // 2
    return 1 - 2 * swapped / pairs if pairs else None


def score_differences(a: DocumentScores, b: DocumentScores) -> list[float]:
    """Return the absolute difference of each document's two scores (logits)."""
    return [abs(score - b[document]) for document, score in a.items()]


@dataclass(frozen=True)
class QueryComparison:
    """The changes for one query."""

    query_id: str
    documents: int
    overlap: float
    same_best: bool
    #: Whether the ten best documents are the same in the same order.
    same_order: bool
    tau: float | None
    largest_difference: float
    sum_of_differences: float

    @property
    def extent(self) -> tuple[float, float]:
        """Return a sort key that puts the greatest change first."""
        return self.overlap, 1.0 if self.tau is None else self.tau


def compare_query(query_id: str, a: DocumentScores, b: DocumentScores) -> QueryComparison:
    """Compare two rankings of the same documents."""
    first, second = list(a), list(b)
    differences = score_differences(a, b)
    return QueryComparison(
        query_id=query_id,
        documents=len(first),
        overlap=overlap(first, second),
        same_best=first[0] == second[0],
        same_order=first[:TOP] == second[:TOP],
        tau=kendall_tau(first, second),
        largest_difference=max(differences),
        sum_of_differences=sum(differences),
    )


@dataclass
class ComparisonSummary:
    """The changes over all queries that both models have scored."""

    queries: int = 0
    pairs: int = 0
    #: The number of queries with ten documents or fewer, whose overlap is always 1.
    short: int = 0
    same_best: int = 0
    same_order: int = 0
    largest_difference: float = 0.0
    #: The number of queries that at least one of the models failed to score.
    failed: int = 0
    #: The ids of the first of these.
    failed_ids: list[str] = field(default_factory=list)
    #: The queries whose ten best changed most, greatest change first.
    changed: list[QueryComparison] = field(default_factory=list)
    _overlaps: float = 0.0
    _differences: float = 0.0
    _taus: float = 0.0
    _with_tau: int = 0

    def add(self, each: QueryComparison) -> None:
        """Add a query."""
        self.queries += 1
        self.pairs += each.documents
        self.short += each.documents <= TOP
        self.same_best += each.same_best
        self.same_order += each.same_order
        self.largest_difference = max(self.largest_difference, each.largest_difference)
        self._overlaps += each.overlap
        self._differences += each.sum_of_differences
        if each.tau is not None:
            self._taus += each.tau
            self._with_tau += 1
        if not each.same_order:
            self.changed = sorted([*self.changed, each], key=lambda one: one.extent)[:EXAMPLES]

    def add_failed(self, query_id: str) -> None:
        """Add a query that cannot be compared."""
        self.failed += 1
        if len(self.failed_ids) < EXAMPLES:
            self.failed_ids.append(query_id)

    @property
    def mean_overlap(self) -> float:
        """Return the mean overlap of all queries; raise `ZeroDivisionError` if there are none."""
        return self._overlaps / self.queries

    @property
    def mean_difference(self) -> float:
        """Return the mean difference of all pairs; raise `ZeroDivisionError` if there are none."""
        return self._differences / self.pairs

    @property
    def mean_tau(self) -> float | None:
        """Return the mean tau of queries with two or more documents; None if there are none."""
        return self._taus / self._with_tau if self._with_tau else None
