"""Find what a run names and its other files do not have, and why that may be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from producer.files.quoting import normalized, quoted, shown
from producer.formats.records import InvalidLines

#: How many unknown ids a message names.
_IDS_SHOWN = 5
#: How many documents are searched for one whose id looks like an unknown one: a second or two.
_MAX_SEARCHED = 1_000_000
#: How many ids a message names that a file has instead.
_EXAMPLES = 2
#: How many ids are kept that are not in the run: enough to tell what file they are from.
_MAX_UNUSED_KEPT = 1_000


class UnknownIds:
    """Compares the ids of a run with those of its queries and its corpus."""

    def __init__(self, database: sqlite3.Connection, bad: InvalidLines) -> None:
        self._database, self._bad = database, bad
        #: The first query ids that the run does not have.
        self._unused: list[str] = []

    def note_unused(self, query_id: str) -> None:
        """Remember a query that the run does not have."""
        if len(self._unused) < _MAX_UNUSED_KEPT:
            self._unused.append(query_id)

    def drop(self, what: str, table: str, run: str, source: str) -> None:
        """Report what the run names and `source` does not have; drop it if lines may be skipped."""
        missing = f"{what}_id NOT IN (SELECT id FROM {table} WHERE text IS NOT NULL)"
        lines, ids = self._database.execute(
            f"SELECT count(*), count(DISTINCT {what}_id) FROM candidates WHERE {missing}"
        ).fetchone()
        if not lines:
            return
        names = [
            name
            for (name,) in self._database.execute(
                f"SELECT DISTINCT {what}_id FROM candidates WHERE {missing} ORDER BY rowid"
                f" LIMIT {_IDS_SHOWN}"
            )
        ]
        listed = ", ".join(map(shown, names)) + (", ..." if ids > len(names) else "")
        self._bad.add(
            f"{shown(run)}: {ids:,} {table if ids > 1 else what} not in {shown(source)}: {listed}"
            f"{self._hint(what, names)}",
            lines=lines,
        )
        self._database.execute(f"DELETE FROM candidates WHERE {missing}")

    def _hint(self, what: str, names: list[str]) -> str:
        """Return a hint at ids that look alike, at files that were swapped, or at other ids."""
        others: Iterable[str] = self._unused
        if what == "document":
            rows = self._database.execute("SELECT id FROM documents LIMIT ?", (_MAX_SEARCHED,))
            others = (name for (name,) in rows)
        elif self._are_documents(self._unused):
            return "; its ids are those of documents: are --queries and --corpus swapped?"
        looks = {normalized(name): name for name in names}
        examples: list[str] = []
        for other in others:
            if normalized(other) in looks:
                named = looks[normalized(other)]
                return f"; it has {quoted(other)}, where the run has {quoted(named)}"
            if len(examples) < _EXAMPLES:
                examples.append(other)
        return f"; its ids are such as {', '.join(map(quoted, examples))}" if examples else ""

    def _are_documents(self, ids: list[str]) -> bool:
        marks = ", ".join("?" * len(ids))
        sql = f"SELECT 1 FROM candidates WHERE document_id IN ({marks}) LIMIT 1"
        return self._database.execute(sql, ids).fetchone() is not None
