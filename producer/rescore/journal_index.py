"""Index the lines of a journal by query, and find the queries that a round has not scored yet.

The tables are in the database of the collection, on disk, so that they can be joined with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from producer.rescore import journal_lines
from producer.rescore.options import RetryKind
from producer.rescore.progress import Progress
from producer.rescore.staged_query import StagedQuery
from producer.rescore.staging import Staging

_TABLES = (
    "journals (id INTEGER PRIMARY KEY)",
    "scored (journal INTEGER, query_id TEXT, start INTEGER, model TEXT, downgraded INTEGER,"
    " truncated INTEGER, lost_tokens INTEGER, shortened INTEGER, code TEXT, message TEXT,"
    " basis INTEGER, UNIQUE (journal, query_id))",
    "retried (journal INTEGER NOT NULL, query_id TEXT NOT NULL, UNIQUE (journal, query_id))",
    "done (journal INTEGER NOT NULL, query_id TEXT NOT NULL, UNIQUE (journal, query_id))",
)

_SELECTED = {"failed": "code IS NOT NULL", "downgraded": "downgraded"}


class JournalIndex:
    """The index of one journal.

    Queries are scored in rounds: all queries in the first, and the retried ones in later rounds.
    """

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._database = staging.database
        for table in _TABLES:
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        #: The id of this journal in the tables.
        self._id = self._database.execute("INSERT INTO journals DEFAULT VALUES").lastrowid
        self._is_retry = False

    def add(self, start: int, line: dict[str, Any]) -> None:
        """Record that a query's line begins at offset `start` in the journal.

        The line replaces an earlier one, unless it is a failure and the earlier one a ranking.
        """
        source, error = line.get("provenance") or {}, line.get("error") or {}
        self._database.execute(
            "INSERT INTO scored VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (journal, query_id) DO UPDATE SET"
            " start = excluded.start, model = excluded.model, downgraded = excluded.downgraded,"
            " truncated = excluded.truncated, lost_tokens = excluded.lost_tokens,"
            " shortened = excluded.shortened, code = excluded.code, message = excluded.message,"
            " basis = excluded.basis"
            " WHERE excluded.code IS NULL OR scored.code IS NOT NULL",
            (
                self._id,
                line["query_id"],
                start,
                source.get("model"),
                bool(source.get("downgraded")),
                line.get("truncated", 0),
                line.get("lost_tokens", 0),
                line.get("shortened", 0),
                error.get("code"),
                error.get("message"),
                line.get(journal_lines.BASIS),
            ),
        )
        self._database.execute(
            "INSERT OR IGNORE INTO done VALUES (?, ?)", (self._id, line["query_id"])
        )

    def starts(self) -> Iterator[int]:
        """Yield the offset of each query's line, in the order of the input."""
        rows = self._database.execute(
            # The cross join keeps SQLite from sorting all rows first.
            "SELECT s.start FROM queries q CROSS JOIN scored s"
            " ON s.journal = ? AND s.query_id = q.id"
            " WHERE q.id NOT IN (SELECT query_id FROM excluded) ORDER BY q.seq",
            (self._id,),
        )
        for (start,) in rows:
            yield start

    def start_of(self, query_id: str) -> int | None:
        """Return the offset of a query's line; None if it has none."""
        found = self._database.execute(
            "SELECT start FROM scored WHERE journal = ? AND query_id = ?", (self._id, query_id)
        ).fetchone()
        return found[0] if found else None

    def failed(self) -> Iterator[tuple[str, int]]:
        """Yield the id and the offset of the line of each query that has failed.

        The indexes may be changed meanwhile.
        """
        start = -1
        while rows := self._database.execute(
            "SELECT query_id, start FROM scored WHERE journal = ? AND start > ?"
            " AND code IS NOT NULL ORDER BY start LIMIT 1000",
            (self._id, start),
        ).fetchall():
            yield from rows
            start = rows[-1][1]

    def downgraded_with(self, other: JournalIndex) -> int:
        """Return the number of queries that are downgraded in this index or in the other."""
        count: int = self._database.execute(
            "SELECT count(DISTINCT query_id) FROM scored WHERE journal IN (?, ?) AND downgraded",
            (self._id, other._id),
        ).fetchone()[0]
        return count

    def discard_stale(self, first: JournalIndex) -> None:
        """Discard the lines that are not based on the current line of the other index.

        Their queries are then a part of the current round, and not done.
        """
        stale = (
            "SELECT s.journal, s.query_id FROM scored s JOIN scored f"
            " ON f.journal = ?2 AND f.query_id = s.query_id"
            " WHERE s.journal = ?1 AND s.basis IS NOT f.start"
        )
        values = (self._id, first._id)
        self._database.execute(f"INSERT OR IGNORE INTO retried {stale}", values)
        for table in ("done", "scored"):
            self._database.execute(
                f"DELETE FROM {table} WHERE (journal, query_id) IN ({stale})", values
            )

    def ranked(self) -> Iterator[tuple[int, int]]:
        """Yield the place of each query in the input, and the number of its candidates.

        The number is 0 if the query has failed.
        """
        yield from self._database.execute(
            "SELECT q.seq, iif(s.code IS NULL, q.pairs, 0) FROM queries q CROSS JOIN scored s"
            " ON s.journal = ? AND s.query_id = q.id ORDER BY q.seq",
            (self._id,),
        )

    def begin_round(self, retry: Collection[RetryKind]) -> None:
        """Begin a round with all queries, or with those that `retry` currently selects."""
        self._is_retry = bool(retry)
        for table in ("done", "retried"):
            self._database.execute(f"DELETE FROM {table} WHERE journal = ?", (self._id,))
        for kind in retry:
            self._database.execute(
                "INSERT OR IGNORE INTO retried SELECT journal, query_id FROM scored"
                f" WHERE journal = ? AND {_SELECTED[kind]}",
                (self._id,),
            )

    def staged_queries(self) -> Iterator[StagedQuery]:
        """Yield the queries of this round, done or not, in the order of the input."""
        if not self._is_retry:
            return self._staging.staged_queries()
        return self._staging.staged_queries(
            # The plus keeps SQLite from reading them in another order and sorting all rows.
            "+q.id IN (SELECT query_id FROM retried WHERE journal = ?)",
            (self._id,),
        )

    def are_done(self, query_ids: Iterable[str]) -> bool:
        """Return whether all of these queries have a ranking or a failure of this round."""
        return all(
            self._database.execute(
                "SELECT 1 FROM done WHERE journal = ? AND query_id = ?", (self._id, each)
            ).fetchone()
            for each in query_ids
        )

    def pending(self) -> int:
        """Return the number of queries of this round that are not done."""
        source = "(SELECT id AS query_id FROM queries)"
        if self._is_retry:
            source = "(SELECT query_id FROM retried WHERE journal = ?1)"
        count: int = self._database.execute(
            f"SELECT count(*) FROM {source} WHERE query_id NOT IN"
            " (SELECT query_id FROM done WHERE journal = ?1)",
            (self._id,),
        ).fetchone()[0]
        return count

    def progress(self, most_pairs: int) -> Progress:
        """Return the progress, without the queries that this round has not retried yet.

        At most `most_pairs` pairs of each query count.
        """
        rows = self._database.execute(
            "SELECT model, code, message, count(*), sum(min(pairs, ?2)), sum(truncated),"
            " sum(lost_tokens), sum(shortened), sum(downgraded),"
            # With min(), SQLite takes the columns that are not grouped from the first line.
            " min(start) FROM scored JOIN queries ON queries.id = query_id"
            " WHERE journal = ?1 AND query_id NOT IN"
            "  (SELECT query_id FROM retried WHERE journal = ?1"
            "   EXCEPT SELECT query_id FROM done WHERE journal = ?1)"
            " GROUP BY model, code ORDER BY min(start)",
            (self._id, most_pairs),
        )
        progress = Progress()
        for model, code, message, queries, pairs, *counts, _ in rows:
            truncated, lost, shortened, downgraded = counts
            progress.truncated += truncated
            progress.lost_tokens += lost
            progress.shortened += shortened
            progress.downgraded_queries += downgraded
            if code is None:
                progress.queries += queries
                progress.pairs += pairs
                progress.models[model] += queries
            else:
                progress.failed_queries += queries
                progress.failed_pairs += pairs
                progress.codes[code] += queries
                progress.first_failure = progress.first_failure or message
        return progress
