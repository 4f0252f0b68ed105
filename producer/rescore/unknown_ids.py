"""Find ids of a run that are missing in its other files, and the likely reason."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from contract.printable import counted
from producer.files.quoting import normalized, quoted, shown
from producer.formats.records import InvalidLines

#: The number of unknown ids that a message names.
_IDS_SHOWN = 5
#: The number of documents searched for an id similar to an unknown one, in a second or two.
_MAX_SEARCHED = 1_000_000
#: The number of ids of the file that a message names as examples.
_EXAMPLES = 2
#: The number of ids that are kept although the run lacks them, enough to recognise their file.
_MAX_UNUSED_KEPT = 1_000


class UnknownIds:
    """Compares the ids of a run with those of its queries and its corpus."""

    def __init__(self, database: sqlite3.Connection, bad: InvalidLines) -> None:
        self._database, self._bad = database, bad
        #: The first query ids that are not in the run.
        self._unused: list[str] = []

    def note_unused(self, query_id: str) -> None:
        """Remember a query that is not in the run."""
        if len(self._unused) < _MAX_UNUSED_KEPT:
            self._unused.append(query_id)

    def drop_queries(self, run: str, source: str) -> None:
        """Report queries of the run that `source` lacks; drop them if lines may be skipped."""
        missing = "query IN (SELECT seq FROM queries WHERE text IS NULL)"
        ids = (
            "SELECT id FROM queries WHERE text IS NULL"
            " AND EXISTS (SELECT 1 FROM candidates WHERE query = seq) ORDER BY seq"
        )
        self._drop("query", "queries", missing, ids, run, source)

    def drop_documents(self, run: str, source: str) -> None:
        """Report documents of the run that `source` lacks; drop them if lines may be skipped."""
        missing = "document_id NOT IN (SELECT id FROM documents)"
        ids = (
            f"SELECT document_id FROM candidates WHERE {missing}"
            " GROUP BY document_id ORDER BY min(line)"
        )
        self._drop("document", "documents", missing, ids, run, source)

    def _drop(self, what: str, whats: str, missing: str, ids: str, run: str, source: str) -> None:
        (lines,) = self._database.execute(
            f"SELECT count(*) FROM candidates WHERE {missing}"
        ).fetchone()
        if not lines:
            return
        (number,) = self._database.execute(f"SELECT count(*) FROM ({ids})").fetchone()
        names = [name for (name,) in self._database.execute(f"{ids} LIMIT {_IDS_SHOWN}")]
        listed = ", ".join(map(shown, names)) + (", ..." if number > len(names) else "")
        self._bad.add(
            f"{shown(run)}: {counted(number, what, whats)} not in {shown(source)}: {listed}"
            f"{self._hint(what, names)}",
            lines=lines,
        )
        self._database.execute(f"DELETE FROM candidates WHERE {missing}")

    def _hint(self, what: str, names: list[str]) -> str:
        """Return a hint about similar ids, swapped files, or the file's ids."""
        others: Iterable[str] = self._unused
        if what == "document":
            rows = self._database.execute("SELECT id FROM documents LIMIT ?", (_MAX_SEARCHED,))
            others = (name for (name,) in rows)
        elif self._are_documents(self._unused):
            return "; that file has document ids: are --queries and --corpus swapped?"
        looks = {normalized(name): name for name in names}
        examples: list[str] = []
        for other in others:
            if normalized(other) in looks:
                named = looks[normalized(other)]
                return f"; that file has {quoted(other)} instead of {quoted(named)}"
            if len(examples) < _EXAMPLES:
                examples.append(other)
        return f"; that file has ids such as {', '.join(map(quoted, examples))}" if examples else ""

    def _are_documents(self, ids: list[str]) -> bool:
        marks = ", ".join("?" * len(ids))
        sql = f"SELECT 1 FROM candidates WHERE document_id IN ({marks}) LIMIT 1"
        return self._database.execute(sql, ids).fetchone() is not None
