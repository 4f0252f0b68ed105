"""Find ids of a run that are missing in its other files, and the likely reason."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import chain, islice
from operator import itemgetter

from contract.printable import counted
from producer.files.quoting import normalized, quoted, shown
from producer.formats.records import InvalidLines
from producer.rescore.candidates import CandidateTable

#: The number of unknown ids that a message names.
_IDS_SHOWN = 5
#: The number of documents searched for an id similar to an unknown one, in a second or two.
_MAX_SEARCHED = 1_000_000
#: The number of ids of the file that a message names as examples.
_EXAMPLES = 2
#: The number of ids that are kept although the run lacks them, enough to recognize their file.
_MAX_UNUSED_KEPT = 1_000


class UnknownIds:
    """Compares the ids of a run with those of its queries and its corpus."""

    def __init__(
        self, database: sqlite3.Connection, candidates: CandidateTable, bad: InvalidLines
    ) -> None:
        self._database, self._candidates, self._bad = database, candidates, bad
        #: The first query ids that are not in the run.
        self._unused: list[str] = []
        #: The first document ids of a corpus that is not staged as a whole.
        self._documents: list[str] = []

    def note_unused(self, query_id: str) -> None:
        """Remember a query that is not in the run."""
        if len(self._unused) < _MAX_UNUSED_KEPT:
            self._unused.append(query_id)

    def note_documents(self, ids: Iterable[str]) -> None:
        """Remember documents that may not be staged."""
        self._documents += islice(ids, _MAX_UNUSED_KEPT - len(self._documents))

    def drop_queries(self, run: str, source: str) -> None:
        """Report queries of the run that `source` lacks; drop them if lines may be skipped."""
        missing = "FROM candidates JOIN queries ON seq = query WHERE text IS NULL"
        lines, number = self._database.execute(
            f"SELECT coalesce(sum(candidates.pairs), 0), count(*) {missing}"
        ).fetchone()
        if not lines:
            return
        rows = self._database.execute(f"SELECT id {missing} ORDER BY seq LIMIT {_IDS_SHOWN}")
        names = [name for (name,) in rows]
        self._report(("query", "queries"), number, names, lines, run, source)
        self._database.execute(
            "DELETE FROM candidates WHERE query IN (SELECT seq FROM queries WHERE text IS NULL)"
        )
        self._candidates.collect_used()

    def drop_documents(self, run: str, source: str) -> None:
        """Report documents of the run that `source` lacks; drop them if lines may be skipped."""
        (number,) = self._database.execute(
            "SELECT count(*) FROM used WHERE id NOT IN (SELECT id FROM documents)"
        ).fetchone()
        if not number:
            return
        dropped, first_lines = 0, dict[str, int]()
        for query in self._candidates.queries():
            made = self._candidates.get(query)
            known = self._candidates.known(made.ids)
            lines = {
                id_: line
                for id_, line in zip(made.ids, made.lines, strict=True)
                if id_ not in known
            }
            if lines:
                dropped += len(lines)
                first_lines = _first(first_lines, lines)
                kept = [index for index, id_ in enumerate(made.ids) if id_ in known]
                self._candidates.replace(query, made.take(kept))
        names = list(first_lines)
        self._report(("document", "documents"), number, names, dropped, run, source)
        self._candidates.collect_used()

    def _report(
        self,
        nouns: tuple[str, str],
        number: int,
        names: list[str],
        lines: int,
        run: str,
        source: str,
    ) -> None:
        """Report a number of ids, and name some."""
        listed = ", ".join(map(shown, names)) + (", ..." if number > len(names) else "")
        self._bad.add(
            f"{shown(run)}: {counted(number, *nouns)} not in {shown(source)}: {listed}"
            f"{self._hint(nouns[0], names)}",
            lines=lines,
        )

    def _hint(self, what: str, names: list[str]) -> str:
        """Return a hint about similar ids, swapped files, or the file's ids."""
        others: Iterable[str] = self._unused
        if what == "document":
            rows = self._database.execute("SELECT id FROM documents LIMIT ?", (_MAX_SEARCHED,))
            others = chain((name for (name,) in rows), self._documents)
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
        sql = f"SELECT 1 FROM used WHERE id IN ({marks}) LIMIT 1"
        return self._database.execute(sql, ids).fetchone() is not None


def _first(earlier: dict[str, int], lines: dict[str, int]) -> dict[str, int]:
    """Return the ids with the smallest numbers of lines, in this order."""
    merged = lines | {id_: min(line, lines.get(id_, line)) for id_, line in earlier.items()}
    return dict(sorted(merged.items(), key=itemgetter(1))[:_IDS_SHOWN])
