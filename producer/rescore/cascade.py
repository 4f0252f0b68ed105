"""Score all candidates with a small model, and the best of each query again with a large one.

Each model has its own journal, so both passes are resumed, cached and retried like any other
run. The second pass begins when the first has ended. A query that has failed in either pass has no
ranking, because a list of the small model alone would not say what the others do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from pydantic_core import to_json

from producer.files.outputs import sibling_path
from producer.files.streams import is_stream
from producer.rescore import journal_lines
from producer.rescore.finished_run import FinishedRun
from producer.rescore.journal import Journal
from producer.rescore.options import Cascade, RetryKind
from producer.rescore.selection import Selection
from producer.rescore.shards import Shard
from producer.rescore.staged_query import StagedQuery


class BestOf(Selection):
    """The best `most` candidates of each query, by the scores of another journal.

    They are in the order of the input, so that a large model ranks equal scores as it does alone.
    """

    def __init__(self, first: Journal, most: int) -> None:
        self._first = first
        self.most = most

    def select(self, query: StagedQuery) -> StagedQuery | None:
        """Return the query with its best candidates; None if it has failed in the first pass."""
        line = self._first.line(query.id)
        if line is None or not journal_lines.has_ranking(line):
            return None
        best = query.take(sorted(line["indexes"][: self.most]))
        digest = blake2b(to_json(best.document_ids), digest_size=16).hexdigest()
        return replace(best, selected=digest)

    def basis(self, query_id: str) -> int | None:
        """Return the place of the query's line in the other journal."""
        return self._first.start_of(query_id)


class CascadeRun(FinishedRun):
    """The rankings of both journals; `first` is that of the small model. Each has its `top_k`."""

    def __init__(
        self, first: Journal, second: Journal, cascade: Cascade, top_k: int | None
    ) -> None:
        self.first = first
        self.second = second
        self.resumable = second.resumable
        self.cascade = cascade
        self._top_k = top_k

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the line of each query: the documents of the large model first, then the others."""
        for small, large in zip(self.first.lines(), self.second.lines(), strict=True):
            if journal_lines.has_ranking(large):
                yield journal_lines.with_small_model(large, small, self.cascade.keep, self._top_k)
            else:
                yield {key: value for key, value in large.items() if key != journal_lines.BASIS}

    def staged_query(self, query_id: str) -> StagedQuery:
        """Return a query with all its candidates."""
        return self.first.staged_query(query_id)

    @property
    def shard(self) -> Shard | None:
        """Return the shard that is scored, unless it is the whole run."""
        return self.first.shard

    def record_shard(
        self, shard: Shard, format_name: str, output: str, results: str | None
    ) -> None:
        """Record that the files of a shard are complete: see `Journal`."""
        self.second.record_shard(shard, format_name, output, results, self.first)

    def first_rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """Yield as `Journal.rounds` does for the first pass."""
        for _ in self.first.rounds(retry):
            # Now, so that only a command with this cascade continues.
            self.second.begin()
            yield

    def second_rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """Yield as `Journal.rounds` does for the second pass, after the first."""
        self.second.discard_stale(self.first)
        for _ in self.second.rounds(retry):
            self._take_failures()
            if self.second.pending:
                yield

    def _take_failures(self) -> None:
        """Record the queries that have failed in the first pass in the second journal too."""
        self.second.begin()
        for line in self.first.failures():
            if not self.second.are_done([line.head["query_id"]]):
                self.second.append([line])

    def keep(self, notify: Callable[[str], object], error: BaseException | None = None) -> None:
        """Keep the files of both journals: see `Journal.keep`."""
        self.second.keep(notify, error)
        if not self.second.exists:
            self.first.remove()

    def remove(self) -> None:
        """Remove the files of both journals: see `Journal.remove`."""
        self.second.remove()
        self.first.remove()


def first_output(output: str) -> str:
    """Return the name from which the files of the first pass are named."""
    return output if is_stream(output) else str(sibling_path(output, ".cascade"))
