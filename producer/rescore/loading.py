"""Load the files of a collection into its database, and check that they match."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.quoting import quoted, shown
from producer.formats.corpus import read_texts
from producer.formats.qrels import read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair, read_requests
from producer.formats.trec_run import read_run
from producer.rescore.unknown_ids import UnknownIds

_RUN_LINE = "INTO candidates (query, document_id, place, score, line) VALUES (?, ?, ?, ?, ?)"
_PAIR = "INTO candidates (query, document_id, place, text, line) VALUES (?, ?, ?, ?, ?)"
_CANDIDATE = "INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?)"
_DOCUMENT = "INTO documents (id, text) VALUES (?, ?)"
_JUDGMENT = "INTO qrels VALUES (?, ?, ?)"

#: The values of a row in the order of its statement.
Row = tuple[Any, ...]


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
        source, query, query_id = shown(path), 0, ""

        def rows() -> Iterator[Row]:
            nonlocal query, query_id
            rank_before, score_before = 0, 0.0
            for number, (of_query, document_id, rank, score) in read_run(path, self._bad):
                if of_query != query_id:
                    query_id, query = of_query, self._query(of_query)
                # The better score has the worse rank.
                elif (rank_before - rank) * (score_before - score) > 0:
                    self.report.contradictions += 1
                    self.report.first_contradiction = (
                        self.report.first_contradiction or f"{source}:{number}"
                    )
                rank_before, score_before = rank, score
                yield query, document_id, rank, score, number

        def duplicate(row: Row) -> str:
            return (
                f"{source}:{row[-1]}: duplicate document {quoted(row[1])}"
                f" for query {quoted(query_id)}"
            )

        self._insert_all(_RUN_LINE, rows(), duplicate)

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

        record: tuple[int, Row] = (0, ())

        def rows() -> Iterator[Row]:
            nonlocal record
            for record in read_texts(path, self._bad, self._settings.max_text_chars):
                yield record[1]

        def duplicate(document: Row) -> str:
            return f"{source}:{record[0]}: duplicate document id {quoted(document[0])}"

        self._insert_all(_DOCUMENT, rows(), duplicate)
        (self.report.documents,) = self._database.execute(
            "SELECT count(*) FROM documents"
        ).fetchone()

    def requests(self, path: str) -> None:
        """Load request lines, instead of a run with its queries and corpus."""
        source = shown(path)
        for number, request in read_requests(path, self._bad):
            where = f"{source}:{number}"
            if isinstance(request, Pair):
                self._add_pair(where, number, request)
            else:
                self._add_request(where, number, request)

    def qrels(self, path: str) -> None:
        """Load judgments of the queries that have been loaded."""
        source = shown(path)

        record: tuple[int, Row] = (0, ())

        def rows() -> Iterator[Row]:
            nonlocal record
            for record in read_qrels(path, self._bad):
                yield record[1]

        def duplicate(judgment: Row) -> str:
            return (
                f"{source}:{record[0]}: duplicate judgment of {quoted(judgment[1])}"
                f" for query {quoted(judgment[0])}"
            )

        self._insert_all(_JUDGMENT, rows(), duplicate)
        self._check_judged(source)

    def _query(self, query_id: str) -> int:
        """Return the number of a query, which is added unless it is known."""
        self._database.execute("INSERT OR IGNORE INTO queries (id) VALUES (?)", (query_id,))
        number: int = self._database.execute(
            "SELECT seq FROM queries WHERE id = ?", (query_id,)
        ).fetchone()[0]
        return number

    def _add_request(self, where: str, number: int, request: jobs.Request) -> None:
        longest = max(len(request.query), *(len(each.text) for each in request.candidates))
        if self._is_too_long(where, longest):
            return
        try:
            query = self._database.execute(
                "INSERT INTO queries (id, text) VALUES (?, ?)", (request.query_id, request.query)
            ).lastrowid
        except sqlite3.IntegrityError:
            self._bad.add(f"{where}: duplicate query id {quoted(str(request.query_id))}")
            return
        self._database.executemany(
            f"INSERT {_CANDIDATE}",
            (
                (
                    query,
                    candidate.id,
                    candidate.score,
                    place,
                    number,
                    candidate.text,
                    None if candidate.metadata is None else json.dumps(candidate.metadata),
                )
                for place, candidate in enumerate(request.candidates)
            ),
        )

    def _add_pair(self, where: str, number: int, pair: Pair) -> None:
        if self._is_too_long(where, max(len(pair.query), len(pair.text))):
            return
        query = self._query(pair.query_id)
        (known,) = self._database.execute(
            "SELECT text FROM queries WHERE seq = ?", (query,)
        ).fetchone()
        if known is None:
            self._database.execute("UPDATE queries SET text = ? WHERE seq = ?", (pair.query, query))
        elif known != pair.query:
            self._bad.add(
                f"{where}: the text of query {quoted(pair.query_id)} differs from an earlier line"
            )
            return
        row = (query, pair.document_id, number, pair.text, number)
        try:
            self._database.execute(f"INSERT {_PAIR}", row)
        except sqlite3.IntegrityError:
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

    def _insert_all(self, sql: str, rows: Iterator[Row], duplicate: Callable[[Row], str]) -> None:
        """Insert all rows; if a key is taken, add the message or replace the earlier row."""
        row: Row = ()

        def noted() -> Iterator[Row]:
            nonlocal row
            for row in rows:  # noqa: UP028  # the loop keeps the row
                yield row

        while True:
            try:
                self._database.executemany(f"INSERT {sql}", noted())
            except sqlite3.IntegrityError:
                # All rows before this one are inserted, and the next ones are not parsed yet.
                self._replace(sql, row, duplicate(row))
            else:
                return

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
