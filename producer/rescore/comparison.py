"""What changes if another model scores: two rankings of each query, side by side.

Memory does not grow with the number of queries: the journals of both models are read in step, a
line of each at a time, in the order of the input.
"""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import InvalidInput, RerankError
from contract.settings import Settings
from producer.client.blocking import RerankClient
from producer.formats.records import InvalidLines
from producer.rescore import runner
from producer.rescore.journal import Journal
from producer.rescore.options import Options
from producer.rescore.staging import Staging

#: The places that users look at.
TOP = 10
#: Queries to show: those that changed most, and those that failed.
EXAMPLES = 5

#: DocumentScores of a query's documents by their ids, best first.
DocumentScores = dict[str, float]


def check_models(models: Sequence[str]) -> tuple[str, str]:
    """The two models to compare, the baseline first.

    Raises `InvalidInput` unless there are two, and not the same.
    """
    if len(models) != 2:
        raise InvalidInput(
            f"give --model twice (here {len(models)} times): the model to compare against, then"
            " the other one"
        )
    if models[0] == models[1]:
        raise InvalidInput(f"both --model are {models[0]!r}: there is nothing to compare")
    return models[0], models[1]


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """Share of `a`'s ten best that are among `b`'s ten best, from 0 to 1.

    Of lists shorter than ten, as many as the shorter one has are taken of each.
    """
    depth = min(TOP, len(a), len(b))
    return len(set(a[:depth]) & set(b[:depth])) / depth


def kendall_tau(a: Sequence[str], b: Sequence[str]) -> float | None:
    """Kendall's tau of two orders of the same documents: 1 is the same, -1 the reverse.

    Equal scores count in the order in which they were ranked. None for fewer than two documents.
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
    """How far the two scores of each document are apart: logits, never negative."""
    return [abs(score - b[document]) for document, score in a.items()]


@dataclass(frozen=True)
class QueryComparison:
    """What changed for one query."""

    query_id: str
    documents: int
    overlap: float
    same_best: bool
    #: Whether the ten best are the same in the same order.
    same_order: bool
    tau: float | None
    largest_difference: float
    sum_of_differences: float

    @property
    def extent(self) -> tuple[float, float]:
        """What to sort by: the greatest change first."""
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
    """What changed over all queries that both models have scored."""

    queries: int = 0
    pairs: int = 0
    #: Queries with ten documents or fewer: their overlap is 1 whatever happens.
    short: int = 0
    same_best: int = 0
    same_order: int = 0
    largest_difference: float = 0.0
    #: Queries that at least one of the models failed to score.
    failed: int = 0
    #: Ids of the first of them.
    failed_ids: list[str] = field(default_factory=list)
    #: The greatest changes of a top ten, the greatest first.
    changed: list[QueryComparison] = field(default_factory=list)
    _overlaps: float = 0.0
    _differences: float = 0.0
    _taus: float = 0.0
    _with_tau: int = 0

    def add(self, each: QueryComparison) -> None:
        """Count a query."""
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
        """Count a query that cannot be compared."""
        self.failed += 1
        if len(self.failed_ids) < EXAMPLES:
            self.failed_ids.append(query_id)

    @property
    def mean_overlap(self) -> float:
        """Of all queries; raises `ZeroDivisionError` if there are none."""
        return self._overlaps / self.queries

    @property
    def mean_difference(self) -> float:
        """Of all pairs; raises `ZeroDivisionError` if there are none."""
        return self._differences / self.pairs

    @property
    def mean_tau(self) -> float | None:
        """Of the queries with two documents or more; None if there are none."""
        return self._taus / self._with_tau if self._with_tau else None


class Collection(Staging):
    """A staged collection that several journals can stand on, each with an `index` of its own."""

    def __init__(self, settings: Settings, bad: InvalidLines, depth: int | None = None) -> None:
        super().__init__(settings, bad, depth)
        self._database.execute("CREATE TABLE left_out (query_id TEXT NOT NULL UNIQUE)")

    def index(self) -> Index:
        """What a journal is made with. Use it in a `with` block."""
        return Index(self._settings, self)

    def query_ids(self) -> Iterator[str]:
        """Queries in the order of the input, without those that were left out."""
        rows = self._database.execute(
            "SELECT id FROM queries WHERE id NOT IN (SELECT query_id FROM left_out) ORDER BY seq"
        )
        for (query_id,) in rows:
            yield query_id

    def text(self, query_id: str) -> str:
        """The query itself."""
        text: str = self._database.execute(
            "SELECT text FROM queries WHERE id = ?", (query_id,)
        ).fetchone()[0]
        return text

    def leave_out(self, query_id: str) -> None:
        """Leave a query out of what any journal gives from now on."""
        self._database.execute("INSERT INTO left_out VALUES (?)", (query_id,))


class Index(Staging):
    """Where the lines of one journal begin: a staging itself has room for those of one only."""

    def __init__(self, settings: Settings, collection: Collection) -> None:
        super().__init__(settings, InvalidLines())
        self._collection = collection

    def scored(self) -> Iterator[tuple[str, int]]:
        """As of any staging, without the queries that the collection leaves out."""
        for query_id in self._collection.query_ids():
            row = self._database.execute(
                "SELECT start FROM scored WHERE query_id = ?", (query_id,)
            ).fetchone()
            if row is not None:
                yield query_id, row[0]


def compare(collection: Collection, a: Journal, b: Journal) -> ComparisonSummary:
    """Compare what two journals of the whole collection hold.

    Queries that either has as failed are counted, and left out of the collection: what is measured
    of the journals afterwards is then of the same queries.
    """
    summary = ComparisonSummary()
    for (_, one), (_, other) in zip(a.lines(), b.lines(), strict=True):
        query_id: str = one["query_id"]
        if "documents" in one and "documents" in other:
            summary.add(compare_query(query_id, _scores(one), _scores(other)))
        else:
            summary.add_failed(query_id)
            collection.leave_out(query_id)
    return summary


def _scores(line: dict[str, Any]) -> DocumentScores:
    return {each["id"]: each["score"] for each in line["documents"]}


def find_other_model(journal: Journal, model: str) -> str | None:
    """Say which other model than `model` made scores of the journal, and why; None if none did."""
    for _, line in journal.lines():
        source = line.get("provenance")
        if source and (source["downgraded"] or source["model"] != model):
            why = f": {source['reason']}" if source.get("reason") else ""
            return f"query {line['query_id']!r} was scored by {source['model']}, not {model}{why}"
    return None


def warm_up(
    client: RerankClient,
    asked: Options,
    folder: Path,
    notify: Callable[[str], object],
) -> None:
    """Have as many of the workers' children load the model as there are jobs in flight.

    What stands in the model's way is seen before anything is scored with either, and loading does
    not count as scoring. `folder` is for scratch files. Raises `RerankError` with what the worker
    said, or as `rescore.rescore`.
    """
    source = folder / "warm-up.jsonl"
    lines = (
        json.dumps({"query_id": str(n), "query": "q", "candidates": [{"id": "d", "text": "d"}]})
        for n in range(asked.window)
    )
    source.write_text("\n".join(lines))
    options = dataclasses.replace(asked, pairs_per_job=1)
    with Staging(client.settings, InvalidLines()) as staging:
        staging.load_requests(str(source))
        with Journal(str(folder / "warm-up"), staging) as journal:
            progress = runner.rescore(client, staging, journal, options, lambda _: None, notify)
    if progress.first_failure is not None:
        code = next(iter(progress.codes))
        raise RerankError(
            f"a worker cannot score with {asked.model!r} ({code}): {progress.first_failure}"
        )


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """How much each measure is higher after than before."""
    return {name: after[name] - value for name, value in before.items()}
