"""Keep the candidates of each query as columns, in one row of the collection's database.

A row for each candidate would take several times as long to write and to read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Self

from pydantic_core import from_json, to_json

#: The tables, in a database that also has the table `documents`.
SCHEMA = """
CREATE TABLE candidates (
  query INTEGER NOT NULL, part INTEGER NOT NULL, pairs INTEGER NOT NULL, longest INTEGER NOT NULL,
  ids TEXT NOT NULL, places TEXT NOT NULL, lines TEXT NOT NULL, scores TEXT, texts TEXT,
  metadata TEXT, UNIQUE (query, part)
);
CREATE TABLE used (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_NAMES = ("ids", "places", "lines", "scores", "texts", "metadata")
_SELECT = "SELECT {} FROM candidates WHERE query = ? ORDER BY part"
_ALL = _SELECT.format(", ".join(_NAMES))
_SCORED = _SELECT.format("ids, '[]', '[]', scores, texts, metadata")
_INSERT = "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Candidates:
    """Candidates of one query, as columns; those that are not given are None."""

    ids: Sequence[str]
    #: The ranks in a run, or the places in a request.
    places: Sequence[int]
    #: The numbers of the lines in the file.
    lines: Sequence[int]
    scores: Sequence[float] | Sequence[float | None] | None = None
    texts: Sequence[str] | None = None
    #: The metadata as JSON.
    metadata: Sequence[str | None] | None = None

    @property
    def longest(self) -> int:
        """At least the number of characters of any candidate."""
        return sum(
            max(map(len, column), default=0)
            for column in (self.ids, self.texts or (), filter(None, self.metadata or ()))
        )

    def column(self, name: str) -> Sequence[Any]:
        """Return a column; one that is not given as Nones."""
        found: Sequence[Any] | None = getattr(self, name)
        return [None] * len(self.ids) if found is None else found

    @classmethod
    def _of(cls, columns: Iterable[Any]) -> Self:
        return cls(*columns)

    @classmethod
    def of_row(cls, row: Iterable[str | None]) -> Self:
        """Return the candidates in a row of the table."""
        return cls._of(None if each is None else from_json(each) for each in row)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the candidates of all parts, one after the other."""
        return cls._of(
            None
            if all(getattr(part, name) is None for part in parts)
            else list(chain.from_iterable(part.column(name) for part in parts))
            for name in _NAMES
        )

    def take(self, indexes: Sequence[int]) -> Self:
        """Return the candidates at these indexes, in this order."""
        return self._of(
            None if column is None else [column[index] for index in indexes]
            for column in (getattr(self, name) for name in _NAMES)
        )

    def last_of_each_id(self, report: Callable[[str, int], object]) -> Self:
        """Return the candidates without duplicates; report the id and the line of each."""
        if len(set(self.ids)) == len(self.ids):
            return self
        last: dict[str, int] = {}
        for index, id_ in enumerate(self.ids):
            if id_ in last:
                report(id_, self.lines[index])
            last[id_] = index
        return self.take(sorted(last.values()))

    @cached_property
    def ranks_follow_scores(self) -> bool:
        """Return whether the order of their places is also that of their scores."""
        scores, places = self.column("scores"), list(self.places)
        return places == sorted(places) and list(scores) == sorted(scores, reverse=True)

    def by_score(self) -> Self:
        """Return them in the order of the first stage: by score, then by rank, then by line."""
        if self.ranks_follow_scores:
            return self
        order = self._by_place()
        return self.take(sorted(order, key=self.column("scores").__getitem__, reverse=True))

    def by_place(self) -> Self:
        """Return them in the order of a request."""
        return self.take(self._by_place())

    def _by_place(self) -> list[int]:
        keys = list(zip(self.places, self.lines, strict=True))
        return sorted(range(len(keys)), key=keys.__getitem__)


class CandidateTable:
    """The candidates of all queries, by the numbers of the queries."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, query: int, made: Candidates) -> None:
        """Add candidates of a query, which may have others already."""
        columns = [getattr(made, name) for name in _NAMES]
        encoded = (None if each is None else to_json(each).decode() for each in columns)
        row = (query, min(made.lines), len(made.ids), made.longest, *encoded)
        self._database.execute(_INSERT, row)

    def get(self, query: int) -> Candidates:
        """Return all candidates of a query, in the order in which they were added."""
        parts = [Candidates.of_row(row) for row in self._database.execute(_ALL, (query,))]
        return parts[0] if len(parts) == 1 else Candidates.joined(parts)

    def scored(self, query: int) -> Candidates:
        """Return the candidates of a query after loading, without their places and lines."""
        return Candidates.of_row(self._database.execute(_SCORED, (query,)).fetchone())

    def replace(self, query: int, made: Candidates) -> None:
        """Replace all candidates of a query."""
        self._database.execute("DELETE FROM candidates WHERE query = ?", (query,))
        if made.ids:
            self.add(query, made)

    def queries(self, having: str = "1") -> Iterator[int]:
        """Yield the queries, which may be replaced meanwhile, for which an SQL condition holds."""
        sql = f"SELECT query FROM candidates WHERE query > ? GROUP BY query HAVING {having} LIMIT 1"
        query = -1
        while found := self._database.execute(sql, (query,)).fetchone():
            (query,) = found
            yield query

    def texts(self, ids: Sequence[str]) -> list[str]:
        """Return the texts of documents of the corpus."""
        # The cross join keeps the order of the ids.
        return self._of_corpus("SELECT d.text", ids)

    def known(self, ids: Sequence[str]) -> set[str]:
        """Return those ids that are in the corpus."""
        return set(self._of_corpus("SELECT d.id", ids))

    def _of_corpus(self, select: str, ids: Sequence[str]) -> list[str]:
        rows = self._database.execute(
            f"{select} FROM json_each(?) i CROSS JOIN documents d ON d.id = i.value",
            (to_json(ids).decode(),),
        )
        return [value for (value,) in rows]

    def used(self, ids: Collection[str]) -> set[str]:
        """Return those ids that are candidates of a query, from the last `collect_used`."""
        rows = self._database.execute(
            "SELECT value FROM json_each(?) WHERE value IN (SELECT id FROM used)",
            (to_json(list(ids)).decode(),),
        )
        return {value for (value,) in rows}

    def collect_used(self) -> None:
        """Fill the table of all distinct ids."""
        self._database.execute("DELETE FROM used")
        self._database.execute(
            "INSERT OR IGNORE INTO used SELECT i.value FROM candidates, json_each(ids) i"
        )
