"""Load the files of a collection into its database, and check that they match."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.quoting import quoted, shown
from producer.formats.corpus import read_texts
from producer.formats.qrels import read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair, read_requests
from producer.formats.trec_run import RunLine, read_run
from producer.rescore.unknown_ids import UnknownIds

_RUN_LINE = "INTO candidates (query_id, document_id, place, score) VALUES (?, ?, ?, ?)"
_PAIR = "INTO candidates (query_id, document_id, place, text) VALUES (?, ?, ?, ?)"
_DOCUMENT = "INTO documents VALUES (?, ?)"
_JUDGMENT = "INTO qrels VALUES (?, ?, ?)"


@dataclass
class LoadReport:
    """Counts of the files' contents that are not scored."""

    #: The number of all documents of the corpus.
    documents: int = 0
    #: The number of queries that are not in the run.
    other_queries: int = 0
    #: The number of consecutive lines of the run whose ranks contradict their scores.
    contradictions: int = 0
    first_contradiction: str = ""


class Loader:
    """Inserts records into the database of a staging, and adds invalid ones to `bad`.

    Call its methods in this order, within a transaction. They raise `InvalidInput`.
    """

    def __init__(self, database: sqlite3.Connection, settings: Settings, bad: InvalidLines) -> None:
        self._database, self._settings, self._bad = database, settings, bad
        self.report = LoadReport()
        self.unknown_ids = UnknownIds(database, bad)

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
                    f"{source}:{number}: duplicate document {quoted(line.document_id)}"
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
            if known is None:  # the query is not in the run
                self.report.other_queries += 1
                self.unknown_ids.note_unused(query.id)
                continue
            if not query.text.strip():
                self._bad.add(f"{source}:{number}: the text of query {quoted(query.id)} is empty")
                continue
            if known[0] is not None:
                self._bad.add(f"{source}:{number}: duplicate query id {quoted(query.id)}")
            self._database.execute(
                "UPDATE queries SET text = ? WHERE id = ?", (query.text, query.id)
            )

    def corpus(self, path: str) -> None:
        """Load documents, including those that are not in the run."""
        source = shown(path)
        for number, document in read_texts(path, self._bad, self._settings.max_text_chars):
            if self._insert(_DOCUMENT, document):
                self.report.documents += 1
            else:
                self._replace(
                    _DOCUMENT,
                    document,
                    f"{source}:{number}: duplicate document id {quoted(document.id)}",
                )

    def requests(self, path: str) -> None:
        """Load request lines, instead of a run with its queries and corpus."""
        source = shown(path)
        for number, request in read_requests(path, self._bad):
            where = f"{source}:{number}"
            if isinstance(request, Pair):
                self._add_pair(where, number, request)
            else:
                self._add_request(where, request)

    def qrels(self, path: str) -> None:
        """Load judgments of the queries that have been loaded."""
        source = shown(path)
        for number, judgment in read_qrels(path, self._bad):
            if not self._insert(_JUDGMENT, judgment):
                self._replace(
                    _JUDGMENT,
                    judgment,
                    f"{source}:{number}: duplicate judgment of {quoted(judgment.document_id)}"
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
            self._bad.add(f"{where}: duplicate query id {quoted(str(request.query_id))}")
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
                f"{where}: the text of query {quoted(pair.query_id)} differs from an earlier line"
            )
            return
        row = (pair.query_id, pair.document_id, number, pair.text)
        if not self._insert(_PAIR, row):
            self._replace(
                _PAIR,
                row,
                f"{where}: duplicate document {quoted(pair.document_id)}"
                f" for query {quoted(pair.query_id)}",
            )

    def _is_too_long(self, where: str, chars: int) -> bool:
        limit = self._settings.max_text_chars
        if chars <= limit:
            return False
        self._bad.add(
            f"{where}: a text has {chars:,} characters; the limit is {limit:,}"
            " (RERANKQ_MAX_TEXT_CHARS)"
        )
        return True

    def _insert(self, sql: str, row: tuple[object, ...]) -> bool:
        """Insert a row unless its key is taken; return whether it was inserted."""
        try:
            self._database.execute(f"INSERT {sql}", row)
        except sqlite3.IntegrityError:
            return False
        return True

    def _replace(self, sql: str, row: tuple[object, ...], message: str) -> None:
        self._bad.add(f"{message} (--skip-invalid uses the last one)")
        self._database.execute(f"REPLACE {sql}", row)

    def _check_judged(self, source: str) -> None:
        judged, queries, both = self._database.execute(
            "SELECT (SELECT count(DISTINCT query_id) FROM qrels), (SELECT count(*) FROM queries),"
            " (SELECT count(DISTINCT query_id) FROM qrels"
            "  WHERE query_id IN (SELECT id FROM queries))"
        ).fetchone()
        if not judged:
            raise InvalidInput(f"{source}: the file contains no judgments")
        if queries and not both:
            (example,) = self._database.execute("SELECT query_id FROM qrels").fetchone()
            (known,) = self._database.execute("SELECT id FROM queries").fetchone()
            raise InvalidInput(
                f"{source}: none of its queries is in the run: it has queries such as"
                f" {quoted(example)}, and the run has {quoted(known)}"
            )


def _contradict(one: RunLine, other: RunLine) -> bool:
    """Return whether the better score has the worse rank."""
    if one.query_id != other.query_id:
        return False
    return (one.rank - other.rank) * (one.score - other.score) > 0
