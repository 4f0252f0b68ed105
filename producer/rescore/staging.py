"""Stage a run with its texts in a temporary SQLite database, before anything is sent.

Memory does not grow with the collection, and files that do not match are found early.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.quoting import shown
from producer.formats.records import InvalidLines
from producer.rescore import loading, manifest
from producer.rescore.document_sizes import check_document_sizes

_SCHEMA = """
CREATE TABLE queries (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT);
CREATE TABLE documents (id TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE candidates (
  query_id TEXT NOT NULL, document_id TEXT NOT NULL, score REAL, place INTEGER NOT NULL,
  text TEXT, metadata TEXT, UNIQUE (query_id, document_id)
);
CREATE TABLE qrels (
  query_id TEXT NOT NULL, document_id TEXT NOT NULL, relevance INTEGER NOT NULL,
  UNIQUE (query_id, document_id)
);
CREATE TABLE excluded (query_id TEXT NOT NULL UNIQUE);
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32768;
"""

#: The number of pairs of each query within the depth; a depth of -1 is no limit.
_SIZES = """
CREATE VIEW query_sizes AS
  SELECT query_id, CASE WHEN {depth} < 0 THEN count(*) ELSE min(count(*), {depth}) END AS pairs
  FROM candidates GROUP BY query_id;
"""

#: The order of the first stage, best first: by score, then by rank, then by line.
_BY_SCORE = "c.score DESC, c.place, c.rowid"
#: The order in a request line.
_AS_GIVEN = "c.place"


@dataclass(frozen=True)
class Counts:
    """The number of queries and pairs to score."""

    queries: int
    pairs: int
    documents: int


class Staging:
    """A collection on disk, in the order in which it is scored. Use it in a `with` block.

    Only the best `depth` candidates of each query are scored. The file is in SQLite's folder for
    temporary files (SQLITE_TMPDIR, else /var/tmp), and disappears however the process ends.
    """

    def __init__(self, settings: Settings, bad: InvalidLines, depth: int | None = None) -> None:
        self._settings = settings
        self._bad = bad
        self._depth = -1 if depth is None else depth  # SQL: no limit
        self._order = _BY_SCORE
        # An empty name is a private database in a file that SQLite has already unlinked.
        self.database = sqlite3.connect("", isolation_level=None)
        self.database.executescript(_SCHEMA + _SIZES.format(depth=self._depth))
        self._loader = loading.Loader(self.database, settings, bad)

    @property
    def load_report(self) -> loading.LoadReport:
        """Return counts of the files' contents that are not scored."""
        return self._loader.report

    def load_run(self, run: str, queries: str, corpus: str) -> None:
        """Load a TREC run with its queries and its corpus. Raises `InvalidInput`."""
        with self._transaction():
            self._loader.run(run)
            self._loader.queries(queries)
            self._loader.corpus(corpus)
        self._loader.unknown_ids.drop("query", "queries", run, queries)
        self._loader.unknown_ids.drop("document", "documents", run, corpus)
        self._check_sizes(shown(run))

    def load_requests(self, path: str) -> None:
        """Load request lines. Raises `InvalidInput`."""
        self._order = _AS_GIVEN
        with self._transaction():
            self._loader.requests(path)
        self._check_sizes(shown(path))

    def load_qrels(self, path: str) -> None:
        """Load judgments of the queries that are already loaded. Raises `InvalidInput`."""
        with self._transaction():
            self._loader.qrels(path)

    def counts(self) -> Counts:
        """Return the number of queries and pairs to score."""
        queries, pairs = self.database.execute(
            "SELECT count(*), coalesce(sum(pairs), 0) FROM query_sizes"
        ).fetchone()
        documents = self.database.execute(
            f"SELECT count(DISTINCT document_id) FROM {self._best()}"
        ).fetchone()[0]
        return Counts(queries=queries, pairs=pairs, documents=documents)

    def inputs(self) -> manifest.InputDigests:
        """Return digests that differ if the collection would be scored differently."""
        return manifest.InputDigests(
            queries=manifest.digest(
                self.database.execute("SELECT id, text FROM queries ORDER BY seq")
            ),
            candidates=manifest.digest(
                (query_id, self._candidates(query_id, "document_id, score, text, metadata"))
                for (query_id,) in self.database.execute("SELECT id FROM queries ORDER BY seq")
            ),
            documents=manifest.digest(
                self.database.execute(
                    "SELECT id, text FROM documents"
                    f" WHERE id IN (SELECT document_id FROM {self._best()}) ORDER BY id"
                )
            ),
        )

    def _candidates(self, query_id: str, columns: str) -> list[tuple[Any, ...]]:
        """Return the candidates of a query to score, best first."""
        return self.database.execute(
            f"SELECT {columns} FROM candidates c WHERE query_id = ? ORDER BY {self._order} LIMIT ?",
            (query_id, self._depth),
        ).fetchall()

    def _best(self) -> str:
        """Return SQL that selects the candidates to score of all queries."""
        if self._depth < 0:
            return "candidates"
        return (
            "(SELECT * FROM (SELECT c.*, row_number() OVER"
            f" (PARTITION BY query_id ORDER BY {self._order}) AS n FROM candidates c)"
            f" WHERE n <= {self._depth})"
        )

    def query_ids(self) -> Iterator[str]:
        """Yield all queries in the order of the input."""
        for (query_id,) in self.database.execute("SELECT id FROM queries ORDER BY seq"):
            yield query_id

    def requests(
        self, top_k: int | None, query_ids: Iterable[str] | None = None
    ) -> Iterator[jobs.Request]:
        """Yield the requests of all queries or of these, one query at a time."""
        for query_id in self.query_ids() if query_ids is None else query_ids:
            candidates = self.database.execute(
                "SELECT c.document_id AS id, coalesce(c.text, d.text) AS text, c.score, c.metadata"
                " FROM candidates c LEFT JOIN documents d ON d.id = c.document_id"
                f" WHERE c.query_id = ? ORDER BY {self._order} LIMIT ?",
                (query_id, self._depth),
            )
            yield jobs.parse(
                jobs.Request,
                {
                    "query_id": query_id,
                    "query": self.query_text(query_id),
                    "top_k": top_k,
                    "candidates": [
                        {
                            "id": document_id,
                            "text": document,
                            "score": score,
                            "metadata": None if metadata is None else json.loads(metadata),
                        }
                        for document_id, document, score, metadata in candidates
                    ],
                },
            )

    def query_text(self, query_id: str) -> str:
        """Return the text of a query."""
        text: str = self.database.execute(
            "SELECT text FROM queries WHERE id = ?", (query_id,)
        ).fetchone()[0]
        return text

    def exclude(self, query_id: str) -> None:
        """Exclude a query from everything that is read from the journals from now on."""
        self.database.execute("INSERT INTO excluded VALUES (?)", (query_id,))

    def first_stage(self, query_id: str) -> list[tuple[str, float]]:
        """Return ids and first-stage scores of a query's documents, best first, up to the depth."""
        rows = self._candidates(query_id, "document_id, score")
        if self._order == _BY_SCORE:
            return rows
        # Request lines need not have scores; their order is that of the first stage.
        return [(document_id, float(-place)) for place, (document_id, _) in enumerate(rows)]

    def judgments(self, query_id: str) -> dict[str, int]:
        """Return the relevance of a query's judged documents."""
        return dict(
            self.database.execute(
                "SELECT document_id, relevance FROM qrels WHERE query_id = ?", (query_id,)
            )
        )

    def judged_queries(self) -> int:
        """Return the number of queries that have judgments."""
        count: int = self.database.execute("SELECT count(DISTINCT query_id) FROM qrels").fetchone()[
            0
        ]
        return count

    def _check_sizes(self, source: str) -> None:
        self.database.execute(
            "DELETE FROM queries WHERE id NOT IN (SELECT query_id FROM candidates)"
        )
        if not self.counts().queries:
            raise InvalidInput(
                f"{source}: no query with candidates is left to score; check that the files match"
            )
        check_document_sizes(self.database, self._settings, source)

    def _transaction(self) -> sqlite3.Connection:
        self.database.execute("BEGIN")
        return self.database  # as a context manager, it commits or rolls back

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()
