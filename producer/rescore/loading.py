"""Reads the files of a collection into its database, and finds what does not fit together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.quoting import normalized, quoted, shown
from producer.formats.corpus import read_texts
from producer.formats.qrels import read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair, read_requests
from producer.formats.trec_run import RunLine, read_run

_RUN_LINE = "INTO candidates (query_id, document_id, place, score) VALUES (?, ?, ?, ?)"
_PAIR = "INTO candidates (query_id, document_id, place, text) VALUES (?, ?, ?, ?)"
_DOCUMENT = "INTO documents VALUES (?, ?)"
_JUDGMENT = "INTO qrels VALUES (?, ?, ?)"

#: Of unknown ids, in a message.
_IDS_SHOWN = 5
#: Of a corpus, in search of one that looks like an unknown one: a second or two.
_LOOKED_AT = 1_000_000
#: Of ids that a file has in their place.
_EXAMPLES = 2
#: Of ids that are not in the run, to tell what file they are of.
_OTHERS_KEPT = 1_000


@dataclass
class LoadReport:
    """What a report says of the files, besides what is to be scored."""

    #: All documents of the corpus.
    documents: int = 0
    #: Queries that the run does not have.
    other_queries: int = 0
    #: Consecutive lines of the run whose ranks say another order than their scores.
    contradictions: int = 0
    first_contradiction: str = ""


class Loader:
    """Puts records into a staging's database; what is wrong with one, `bad` is told.

    Its methods are called in this order, within a transaction, and raise `InvalidInput`.
    """

    def __init__(self, database: sqlite3.Connection, settings: Settings, bad: InvalidLines) -> None:
        self._database, self._settings, self._bad = database, settings, bad
        self.report = LoadReport()
        #: Ids of the first queries that the run does not have.
        self._other_ids: list[str] = []

    def run(self, path: str) -> None:
        """Load a TREC run."""
        source, before = shown(path), None
        for number, line in read_run(path, self._bad):
            self._database.execute(
                "INSERT OR IGNORE INTO queries (id) VALUES (?)", (line.query_id,)
            )
            if not self._insert(_RUN_LINE, line):
                self._replace(
                    _RUN_LINE,
                    line,
                    f"{source}:{number}: document {quoted(line.document_id)} stands twice"
                    f" for query {quoted(line.query_id)}",
                )
            if before is not None and _contradict(before, line):
                self.report.contradictions += 1
                self.report.first_contradiction = (
                    self.report.first_contradiction or f"{source}:{number}"
                )
            before = line

    def queries(self, path: str) -> None:
        """Load the texts of the run's queries."""
        source = shown(path)
        for number, query in read_texts(path, self._bad, self._settings.max_text_chars):
            known = self._database.execute(
                "SELECT text FROM queries WHERE id = ?", (query.id,)
            ).fetchone()
            if known is None:  # a query that the run does not have
                self.report.other_queries += 1
                if len(self._other_ids) < _OTHERS_KEPT:
                    self._other_ids.append(query.id)
                continue
            if not query.text.strip():
                self._bad.add(f"{source}:{number}: query {quoted(query.id)} is empty")
                continue
            if known[0] is not None:
                self._bad.add(f"{source}:{number}: query id {quoted(query.id)} stands twice")
            self._database.execute(
                "UPDATE queries SET text = ? WHERE id = ?", (query.text, query.id)
            )

    def corpus(self, path: str) -> None:
        """Load documents, those that the run does not have too."""
        source = shown(path)
        for number, document in read_texts(path, self._bad, self._settings.max_text_chars):
            if self._insert(_DOCUMENT, document):
                self.report.documents += 1
            else:
                self._replace(
                    _DOCUMENT,
                    document,
                    f"{source}:{number}: document id {quoted(document.id)} stands twice",
                )

    def drop_unknown(self, what: str, table: str, run: str, source: str) -> None:
        """Report what the run names and `source` does not have; drop it if that is allowed."""
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
            f"{self._why_unknown(what, names)}",
            lines=lines,
        )
        self._database.execute(f"DELETE FROM candidates WHERE {missing}")

    def requests(self, path: str) -> None:
        """Load self-contained lines, in place of all the above."""
        source = shown(path)
        for number, request in read_requests(path, self._bad):
            where = f"{source}:{number}"
            if isinstance(request, Pair):
                self._add_pair(where, number, request)
            else:
                self._add_request(where, request)

    def qrels(self, path: str) -> None:
        """Load judgments of what has been loaded."""
        source = shown(path)
        for number, judgment in read_qrels(path, self._bad):
            if not self._insert(_JUDGMENT, judgment):
                self._replace(
                    _JUDGMENT,
                    judgment,
                    f"{source}:{number}: {quoted(judgment.document_id)} is judged twice"
                    f" for query {quoted(judgment.query_id)}",
                )
        self._check_judged(source)

    def _add_request(self, where: str, request: jobs.Request) -> None:
        longest = max(len(request.query), *(len(each.text) for each in request.candidates))
        if self._is_too_long(where, longest):
            return
        try:
            self._database.execute(
                "INSERT INTO queries (id, text) VALUES (?, ?)", (request.query_id, request.query)
            )
        except sqlite3.IntegrityError:
            self._bad.add(f"{where}: query id {quoted(str(request.query_id))} stands twice")
            return
        self._database.executemany(
            "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    request.query_id,
                    candidate.id,
                    candidate.score,
                    place,
                    candidate.text,
                    None if candidate.metadata is None else json.dumps(candidate.metadata),
                )
                for place, candidate in enumerate(request.candidates)
            ),
        )

    def _add_pair(self, where: str, number: int, pair: Pair) -> None:
        if self._is_too_long(where, max(len(pair.query), len(pair.text))):
            return
        known = self._database.execute(
            "SELECT text FROM queries WHERE id = ?", (pair.query_id,)
        ).fetchone()
        if known is None:
            self._database.execute(
                "INSERT INTO queries (id, text) VALUES (?, ?)", (pair.query_id, pair.query)
            )
        elif known[0] != pair.query:
            self._bad.add(
                f"{where}: query {quoted(pair.query_id)} has another text than in an earlier line"
            )
            return
        row = (pair.query_id, pair.document_id, number, pair.text)
        if not self._insert(_PAIR, row):
            self._replace(
                _PAIR,
                row,
                f"{where}: document {quoted(pair.document_id)} stands twice"
                f" for query {quoted(pair.query_id)}",
            )

    def _is_too_long(self, where: str, chars: int) -> bool:
        limit = self._settings.max_text_chars
        if chars <= limit:
            return False
        self._bad.add(
            f"{where}: a text has {chars:,} characters, the limit is {limit:,}"
            " (RERANKQ_MAX_TEXT_CHARS)"
        )
        return True

    def _insert(self, sql: str, row: tuple[object, ...]) -> bool:
        """Insert a row, unless one stands in its place; return whether it was inserted."""
        try:
            self._database.execute(f"INSERT {sql}", row)
        except sqlite3.IntegrityError:
            return False
        return True

    def _replace(self, sql: str, row: tuple[object, ...], message: str) -> None:
        self._bad.add(f"{message} (--skip-invalid counts the last, as BEIR's loader does)")
        self._database.execute(f"REPLACE {sql}", row)

    def _why_unknown(self, what: str, names: list[str]) -> str:
        """Return a hint at ids that look alike, at files that were swapped, or at other ids."""
        others: Iterable[str] = self._other_ids
        if what == "document":
            rows = self._database.execute("SELECT id FROM documents LIMIT ?", (_LOOKED_AT,))
            others = (name for (name,) in rows)
        elif self._are_documents(self._other_ids):
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

    def _check_judged(self, source: str) -> None:
        judged, queries, both = self._database.execute(
            "SELECT (SELECT count(DISTINCT query_id) FROM qrels), (SELECT count(*) FROM queries),"
            " (SELECT count(DISTINCT query_id) FROM qrels"
            "  WHERE query_id IN (SELECT id FROM queries))"
        ).fetchone()
        if not judged:
            raise InvalidInput(f"{source}: there are no judgments")
        if queries and not both:
            (example,) = self._database.execute("SELECT query_id FROM qrels").fetchone()
            (known,) = self._database.execute("SELECT id FROM queries").fetchone()
            raise InvalidInput(
                f"{source}: none of its queries is in the run: it judges {quoted(example)}, the run"
                f" has {quoted(known)}"
            )


def _contradict(one: RunLine, other: RunLine) -> bool:
    """Return whether the better score has the worse rank."""
    if one.query_id != other.query_id:
        return False
    return (one.rank - other.rank) * (one.score - other.score) > 0
