"""Which line of the journal counts for each query, and what is still to be done: tables that stand
beside those of the collection, on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from producer.rescore.progress import Progress

#: Which queries to score once more: those that failed, those that a smaller model scored.
RetryKind = Literal["failed", "downgraded"]

SCHEMA = """
CREATE TABLE scored (
  query_id TEXT NOT NULL UNIQUE, start INTEGER NOT NULL, model TEXT, downgraded INTEGER NOT NULL,
  truncated INTEGER NOT NULL, code TEXT, message TEXT
);
CREATE TABLE redo (query_id TEXT NOT NULL UNIQUE);
CREATE TABLE ended (query_id TEXT NOT NULL UNIQUE);
"""

_SELECTED = {"failed": "code IS NOT NULL", "downgraded": "downgraded"}


class Scored:
    """The part of a staging that knows the journal.

    Queries are scored in rounds: all of them in the first, then those that are to be redone.
    """

    _database: sqlite3.Connection
    _depth: int

    def note_scored(self, start: int, line: dict[str, Any]) -> None:
        """Remember that a query's line begins at `start` in the journal.

        It takes the place of an earlier one, unless it is a failure and that one a ranking.
        """
        source, error = line.get("provenance") or {}, line.get("error") or {}
        self._database.execute(
            "INSERT INTO scored VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (query_id) DO UPDATE SET"
            " start = excluded.start, model = excluded.model, downgraded = excluded.downgraded,"
            " truncated = excluded.truncated, code = excluded.code, message = excluded.message"
            " WHERE excluded.code IS NULL OR scored.code IS NOT NULL",
            (
                line["query_id"],
                start,
                source.get("model"),
                bool(source.get("downgraded")),
                line.get("truncated", 0),
                error.get("code"),
                error.get("message"),
            ),
        )
        self._database.execute("INSERT OR IGNORE INTO ended VALUES (?)", (line["query_id"],))

    def scored(self) -> Iterator[tuple[str, int]]:
        """Queries in the order of the input, with where their lines begin in the journal."""
        yield from self._database.execute(
            "SELECT q.id, s.start FROM queries q JOIN scored s ON s.query_id = q.id ORDER BY q.seq"
        )

    def begin_round(self, redo: Collection[RetryKind]) -> None:
        """Begin to score all queries, or those to `redo` as they stand now."""
        self._database.execute("DELETE FROM ended")
        self._database.execute("DELETE FROM redo")
        for kind in redo:
            self._database.execute(
                f"INSERT OR IGNORE INTO redo SELECT query_id FROM scored WHERE {_SELECTED[kind]}"
            )

    def are_done(self, query_ids: Iterable[str]) -> bool:
        """Whether all of these queries have been scored, or have failed, in this round."""
        return all(
            self._database.execute("SELECT 1 FROM ended WHERE query_id = ?", (each,)).fetchone()
            for each in query_ids
        )

    def pending(self, *, redo: bool) -> int:
        """Number of queries of this round that have not ended."""
        source = "(SELECT query_id FROM redo)" if redo else "(SELECT id AS query_id FROM queries)"
        count: int = self._database.execute(
            f"SELECT count(*) FROM {source} WHERE query_id NOT IN (SELECT query_id FROM ended)"
        ).fetchone()[0]
        return count

    def progress(self) -> Progress:
        """What the journal holds, without what this round has yet to redo."""
        to_redo = "query_id IN (SELECT query_id FROM redo EXCEPT SELECT query_id FROM ended)"
        rows = self._database.execute(
            "WITH sizes AS (SELECT query_id, CASE WHEN ?1 < 0 THEN count(*) ELSE"
            "  min(count(*), ?1) END AS pairs FROM candidates GROUP BY query_id)"
            " SELECT model, code, message, count(*), sum(pairs), sum(truncated), sum(downgraded),"
            # Of the columns that are not grouped, SQLite gives those of the first line.
            "  min(start) FROM scored JOIN sizes USING (query_id)"
            f" WHERE NOT {to_redo} GROUP BY model, code ORDER BY min(start)",
            (self._depth,),
        )
        progress = Progress()
        for model, code, message, queries, pairs, truncated, downgraded, _ in rows:
            progress.truncated += truncated
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
