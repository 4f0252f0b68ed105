"""Stage a run with its texts in a temporary SQLite database, before anything is sent.

Memory does not grow with the collection, and files that do not match are found early.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from contract import jobs
from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files.quoting import shown
from producer.formats.records import InvalidLines
from producer.rescore import candidates, loading, manifest
from producer.rescore.document_sizes import check_document_sizes
from producer.rescore.shards import Shard
from producer.rescore.staged_query import StagedQuery

_SCHEMA = """
CREATE TABLE queries (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, pairs INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE documents (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE qrels (
  query_id TEXT NOT NULL, document_id TEXT NOT NULL, relevance INTEGER NOT NULL,
  UNIQUE (query_id, document_id)
);
CREATE TABLE excluded (query_id TEXT NOT NULL UNIQUE);
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32768;
"""


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

    With a `shard`, only its queries are staged, which may be none.
    """

    def __init__(
        self,
        settings: Settings,
        bad: InvalidLines,
        depth: int | None = None,
        columns: Mapping[str, str] | None = None,
        formats: Mapping[str, str] | None = None,
        shard: Shard | None = None,
    ) -> None:
        self._settings = settings
        self._bad = bad
        self._depth = depth
        #: The number of candidates that are left of queries with more; None if all are left.
        self.cut_to: int | None = None
        self.shard = shard
        self._has_scores = True
        # An empty name is a private database in a file that SQLite has already unlinked.
        self.database = sqlite3.connect("", isolation_level=None)
        self.database.executescript(_SCHEMA + candidates.SCHEMA)
        # The database is never read again, so nothing is ever committed, which would take longer
        # than most changes.
        self.database.execute("BEGIN")
        self._loader = loading.Loader(
            self.database, settings, bad, columns or {}, formats or {}, shard
        )
        self._table = self._loader.candidates

    @property
    def load_report(self) -> loading.LoadReport:
        """Return counts of the files' contents that are not scored."""
        return self._loader.report

    def load_run(self, run: str, queries: str, corpus: str) -> None:
        """Load a TREC run with its queries and its corpus. Raises `InvalidInput`."""
        self._loader.run(run)
        self._loader.queries(queries)
        self._loader.corpus(corpus)
        self._loader.unknown_ids.drop_queries(run, queries)
        self._loader.unknown_ids.drop_documents(run, corpus)
        self._finish(shown(run))

    def load_requests(self, path: str) -> None:
        """Load request lines. Raises `InvalidInput`."""
        self._has_scores = False
        self._loader.requests(path)
        self._finish(shown(path))

    def load_qrels(self, path: str) -> None:
        """Load judgments of the queries that are already loaded. Raises `InvalidInput`."""
        self._loader.qrels(path)

    def counts(self) -> Counts:
        """Return the number of queries and pairs to score."""
        queries, pairs = self.database.execute(
            "SELECT count(*), coalesce(sum(pairs), 0) FROM queries"
        ).fetchone()
        (documents,) = self.database.execute("SELECT count(*) FROM used").fetchone()
        return Counts(queries=queries, pairs=pairs, documents=documents)

    def pairs_up_to(self, most: int) -> int:
        """Return the number of pairs if at most this many of each query are scored."""
        pairs: int = self.database.execute(
            "SELECT coalesce(sum(min(pairs, ?)), 0) FROM queries", (most,)
        ).fetchone()[0]
        return pairs

    def inputs(self) -> manifest.InputDigests:
        """Return digests that differ if the collection would be scored differently."""
        return manifest.InputDigests(
            queries=manifest.digest_of_texts(
                self.database.execute("SELECT id, text FROM queries ORDER BY seq")
            ),
            candidates=manifest.digest(
                (query_id, self._digested(query))
                for query, query_id in self.database.execute(
                    "SELECT seq, id FROM queries ORDER BY seq"
                )
            ),
            documents=manifest.digest_of_texts(
                self.database.execute(
                    "SELECT d.id, d.text FROM used u CROSS JOIN documents d ON d.id = u.id"
                    " ORDER BY u.id"
                )
            ),
        )

    def whole_inputs(self) -> manifest.InputDigests:
        """Return digests of the input of a shard that are the same for all shards of the run."""
        return manifest.InputDigests(**self._loader.whole.digests())

    def _digested(self, query: int) -> list[tuple[Any, ...]]:
        made = self._table.scored(query)
        names = ("ids", "scores", "texts", "metadata")
        return list(zip(*map(made.column, names), strict=True))

    def query_ids(self) -> Iterator[str]:
        """Yield all queries in the order of the input."""
        for (query_id,) in self.database.execute("SELECT id FROM queries ORDER BY seq"):
            yield query_id

    def staged_queries(
        self, only: str = "", values: Sequence[object] = ()
    ) -> Iterator[StagedQuery]:
        """Yield all queries with their candidates, or those that an SQL condition selects.

        The condition refers to the table of queries as `q`; `values` are its parameters.
        """
        queries = self.database.execute(
            f"SELECT q.seq, q.id, q.text FROM queries q {f'WHERE {only}' if only else ''}"
            " ORDER BY q.seq",
            values,
        )
        for query, query_id, text in queries:
            made = self._table.scored(query)
            texts = self._table.texts(made.ids) if made.texts is None else made.texts
            yield StagedQuery(
                query_id, text, made.ids, texts, made.column("scores"), made.column("metadata")
            )

    def staged_query(self, query_id: str) -> StagedQuery:
        """Return a query with its candidates."""
        return next(self.staged_queries("q.id = ?", (query_id,)))

    def requests(self, top_k: int | None) -> Iterator[jobs.Request]:
        """Yield the requests of all queries."""
        for staged in self.staged_queries():
            yield staged.request(top_k)

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
        (query,) = self.database.execute(
            "SELECT seq FROM queries WHERE id = ?", (query_id,)
        ).fetchone()
        made = self._table.scored(query)
        if self._has_scores:
            return list(zip(made.ids, made.column("scores"), strict=True))
        # Request lines may have no scores; their order is that of the first stage.
        return [(document_id, float(-place)) for place, document_id in enumerate(made.ids)]

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

    def _finish(self, source: str) -> None:
        """Keep only the queries and the candidates to score. Raises `InvalidInput`."""
        without = "NOT EXISTS (SELECT 1 FROM candidates WHERE query = queries.seq)"
        (self.load_report.emptied_queries,) = self.database.execute(
            f"SELECT count(*) FROM queries WHERE text IS NOT NULL AND {without}"
        ).fetchone()
        self.database.execute(f"DELETE FROM queries WHERE {without}")
        is_empty = not self.database.execute("SELECT count(*) FROM queries").fetchone()[0]
        if is_empty and not (self.shard and self._loader.whole.has_queries):
            raise InvalidInput(
                f"{source}: no query with candidates is left to score; check that the files match"
            )
        check_document_sizes(self.database, self.staged_queries(), self._settings, source)
        if self._depth is not None:
            self._cut(self._depth)
        self.database.execute(
            "UPDATE queries SET pairs = c.pairs FROM candidates c WHERE c.query = queries.seq"
        )

    def _cut(self, depth: int) -> None:
        """Keep only the best candidates of each query."""
        for query in self._table.queries(f"pairs > {depth}"):
            self._table.replace(query, self._table.get(query).take(range(depth)))
            self.cut_to = depth
        self._table.collect_used()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()
