"""Load the files of a collection into its database, and check that they match."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

from contract import jobs
from contract.column_values import given
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.quoting import quoted, shown
from producer.formats.needed import Needed
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair
from producer.formats.run_line import RunLine
from producer.formats.texts import Text
from producer.rescore.candidates import Candidates, CandidateTable
from producer.rescore.input_readers import InputReaders
from producer.rescore.shards import Shard, WholeInput
from producer.rescore.unknown_ids import UnknownIds

_DOCUMENT = "INTO documents (id, text) VALUES (?, ?)"
#: A shard has only the documents of its candidates.
_USED_DOCUMENT = (
    "INTO documents (id, text) SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM used WHERE id = ?1)"
)
_JUDGMENT = "INTO qrels VALUES (?, ?, ?)"

#: The values of a row in the order of its statement.
Row = tuple[Any, ...]


@dataclass
class LoadReport:
    """Counts of the files' contents that are not scored."""

    #: The number of all documents of the corpus.
    documents: int = 0
    #: The number of queries that are not in the run; of a shard, only its own.
    other_queries: int = 0
    #: The number of queries that were left out, because all of their documents are unknown.
    emptied_queries: int = 0
    #: The number of consecutive lines of the run whose ranks contradict their scores.
    contradictions: int = 0
    first_contradiction: str = ""


class Loader:
    """Inserts records into the database of a staging, and adds invalid ones to `bad`.

    Call its methods in this order, within a transaction. They raise `InvalidInput`.

    With a shard, only its queries and their documents are inserted, and others are not parsed.
    `whole` has the digests of all.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        settings: Settings,
        bad: InvalidLines,
        columns: Mapping[str, str],
        formats: Mapping[str, str],
        shard: Shard | None = None,
    ) -> None:
        self._database, self._settings, self._bad = database, settings, bad
        self._shard = shard
        self.whole = WholeInput()
        self._read = InputReaders(bad, settings.max_text_chars, columns, formats)
        self.report = LoadReport()
        self.candidates = CandidateTable(database)
        self.unknown_ids = UnknownIds(database, self.candidates, bad)

    def run(self, path: str) -> None:
        """Load a run in TREC format or Parquet."""
        source = shown(path)
        for query_id, records in groupby(self._read.run(path, self._own_queries()), _query_id):
            self.whole.has_queries = True
            if query_id is None or not self._is_own(query_id):
                continue
            numbers, lines = zip(*records, strict=True)
            _, ids, ranks, scores = zip(*lines, strict=True)
            made = Candidates(ids, ranks, numbers, scores)
            if not made.ranks_follow_scores:
                self._count_contradictions(source, made)
            made = made.last_of_each_id(partial(self._add_duplicate, source, query_id))
            self.candidates.add(self._query(query_id, numbers[0]), made.by_score())
        self._merge(source, Candidates.by_score)

    def queries(self, path: str) -> None:
        """Load the texts of the run's queries."""
        source = shown(path)
        for number, query in self._read.texts(path, "queries"):
            if self._shard:
                self.whole.add_query(query.id, query.text)
                if not self._is_own(query.id):
                    self.unknown_ids.note_unused(query.id)
                    continue
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

        def duplicate(number: int, document: Row) -> str:
            return f"{source}:{number}: duplicate document id {quoted(document[0])}"

        if self._shard:
            needed = self.whole.needed("documents", self._used)
            self._insert_all(
                _USED_DOCUMENT, self._counted(self._read.needed_documents(path, needed)), duplicate
            )
            return
        self._insert_all(_DOCUMENT, self._read.texts(path, "corpus"), duplicate)
        (self.report.documents,) = self._database.execute(
            "SELECT count(*) FROM documents"
        ).fetchone()

    def _used(self, ids: Collection[str]) -> set[str]:
        """Return those documents that are candidates."""
        self.unknown_ids.note_documents(ids)
        return self.candidates.used(ids)

    def _counted(self, documents: Iterator[tuple[int, Text | None]]) -> Iterator[tuple[int, Text]]:
        """Count all documents of a corpus, and yield those that were parsed."""
        for number, document in documents:
            self.report.documents += 1
            if document is not None:
                self.unknown_ids.note_documents([document.id])
                yield number, document

    def requests(self, path: str) -> None:
        """Load request lines, instead of a run with its queries and corpus."""
        source = shown(path)
        for number, request in self._read.requests(path, self._own_queries()):
            self.whole.has_queries = True
            where = f"{source}:{number}"
            if request is None or not self._is_own(str(request.query_id)):
                continue
            if isinstance(request, Pair):
                self._add_pair(where, number, request)
            else:
                self._add_request(where, number, request)
        self._merge(source, Candidates.by_place)

    def qrels(self, path: str) -> None:
        """Load judgments of the queries that have been loaded."""
        source = shown(path)

        def duplicate(number: int, judgment: Row) -> str:
            return (
                f"{source}:{number}: duplicate judgment of {quoted(judgment[1])}"
                f" for query {quoted(judgment[0])}"
            )

        own = (each for each in self._read.qrels(path) if self._is_own(each[1].query_id))
        self._insert_all(_JUDGMENT, own, duplicate)
        if not self._shard:  # none of the few queries of a shard need have judgments
            self._check_judged(source)

    def _is_own(self, query_id: str) -> bool:
        """Return whether a query is in this shard; true without shards."""
        return self._shard is None or self._shard.has(query_id)

    def _own_queries(self) -> Needed | None:
        """Return how a shard reads a file of all queries with their candidates."""
        return self.whole.needed("candidates", self._shard.own) if self._shard else None

    def _count_contradictions(self, source: str, made: Candidates) -> None:
        """Count the lines whose better score has the worse rank than the line before."""
        records = zip(made.lines, made.places, made.column("scores"), strict=True)
        for (_, rank_before, score_before), (number, rank, score) in pairwise(records):
            if (rank_before - rank) * (score_before - score) > 0:
                self.report.contradictions += 1
                self.report.first_contradiction = (
                    self.report.first_contradiction or f"{source}:{number}"
                )

    def _add_duplicate(self, source: str, query_id: str, document_id: str, line: int) -> None:
        self._bad.add(
            f"{source}:{line}: duplicate document {quoted(document_id)} for query"
            f" {quoted(query_id)} (--skip-invalid uses the last one)"
        )

    def _merge(self, source: str, ordered: Callable[[Candidates], Candidates]) -> None:
        """Merge the candidates of queries that appear in several places of a file."""
        for query in self.candidates.queries("count(*) > 1"):
            (query_id,) = self._database.execute(
                "SELECT id FROM queries WHERE seq = ?", (query,)
            ).fetchone()
            made = self.candidates.get(query)
            made = made.last_of_each_id(partial(self._add_duplicate, source, query_id))
            self.candidates.replace(query, ordered(made))
        self.candidates.collect_used()

    def _query(self, query_id: str, line: int) -> int:
        """Return the number of a query, which is added unless it is known.

        It is the number of the query's first line, so that the shards of a run have the same order.
        """
        self._database.execute(
            "INSERT OR IGNORE INTO queries (seq, id) VALUES (?, ?)", (line, query_id)
        )
        number: int = self._database.execute(
            "SELECT seq FROM queries WHERE id = ?", (query_id,)
        ).fetchone()[0]
        return number

    def _add_request(self, where: str, number: int, request: jobs.Request) -> None:
        longest = max(len(request.query), *(len(each.text) for each in request.candidates))
        if self._is_too_long(where, longest):
            return
        try:
            self._database.execute(
                "INSERT INTO queries (seq, id, text) VALUES (?, ?, ?)",
                (number, request.query_id, request.query),
            )
        except sqlite3.IntegrityError:
            self._bad.add(f"{where}: duplicate query id {quoted(str(request.query_id))}")
            return
        candidates = request.candidates
        metadata = [
            None if each.metadata is None else json.dumps(each.metadata) for each in candidates
        ]
        self.candidates.add(
            number,
            Candidates(
                [each.id for each in candidates],
                list(range(len(candidates))),
                [number] * len(candidates),
                given([each.score for each in candidates]),
                [each.text for each in candidates],
                given(metadata),
            ),
        )

    def _add_pair(self, where: str, number: int, pair: Pair) -> None:
        if self._is_too_long(where, max(len(pair.query), len(pair.text))):
            return
        query = self._query(pair.query_id, number)
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
        self.candidates.add(
            query, Candidates([pair.document_id], [number], [number], None, [pair.text])
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

    def _insert_all(
        self, sql: str, records: Iterator[tuple[int, Row]], duplicate: Callable[[int, Row], str]
    ) -> None:
        """Insert all rows; if a key is taken, add the message or replace the earlier row."""
        record: tuple[int, Row] = (0, ())

        def rows() -> Iterator[Row]:
            nonlocal record
            for record in records:
                yield record[1]

        while True:
            try:
                self._database.executemany(f"INSERT {sql}", rows())
            except sqlite3.IntegrityError:
                # All rows before this one are inserted, and the next ones are not parsed yet.
                self._replace(sql, record[1], duplicate(*record))
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


def _query_id(record: tuple[int, RunLine | None]) -> str | None:
    return record[1] and record[1].query_id
