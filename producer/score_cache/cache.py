"""Find and add the scores of pairs. Several processes on one machine can use the same file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from contract.passages import PassageRow
from contract.scoring import ScoringIdentity
from producer.score_cache import database
from producer.score_cache.database import transaction, translated
from producer.score_cache.keys import query_range

DAY_S = 24 * 3600
#: How many times more rows of a query than keys are read.
_MORE_ROWS = 8
#: The number of keys of one question to SQLite otherwise.
_KEYS_AT_ONCE = 256
#: The number of scores whose day of last use is changed at once.
_USED_AT_ONCE = 10_000

#: The score of a pair, and 0 if it was read in full; else 1 plus the number of tokens that were not
#: read, if that is known.
CachedScore = tuple[float, int]


class ScoreCache:
    """The scores in a file. Use it in a `with` block.

    Raises `InvalidInput` when constructed if the file cannot be used, and `CacheUnusable` later. A
    file without the permission to write is only read. `queries` is how many will be looked up.
    """

    def __init__(
        self, path: str, clock: Callable[[], float] = time.time, *, queries: int = 0
    ) -> None:
        self.path = Path(path)
        self._database, self.writable = database.connect(self.path, queries=queries)
        self._clock = clock
        #: The keys that were used today for the first time, by the number of their identity.
        self._used: dict[int, list[bytes]] = {}

    @property
    def today(self) -> int:
        """The number of days since 1970, in UTC."""
        return int(self._clock() // DAY_S)

    def identity(self, digest: str, passages: str | None = None) -> ScoringIdentity | None:
        """Return the identity with this digest; None if it has no scores.

        With `passages`, return the identity that differs from it only in these passages.
        """
        with translated(self.path):
            found = self._database.execute("SELECT content FROM identities").fetchall()
        for (content,) in found:
            identity = ScoringIdentity.model_validate_json(content)
            without = identity.model_copy(update={"passages": None})
            if identity.passages == passages and without.digest == digest:
                return identity
        return None

    @property
    def is_empty(self) -> bool:
        """Return whether there are no scores."""
        with translated(self.path):
            return self._database.execute("SELECT 1 FROM scores LIMIT 1").fetchone() is None

    def find(self, identity: ScoringIdentity, keys: Sequence[bytes]) -> dict[bytes, CachedScore]:
        """Return the known scores by key. All keys must be those of one query."""
        with translated(self.path):
            number = self._number(identity)
            if number is None or not keys:
                return {}
            wanted, today = set(keys), self.today
            rows = [row for row in self._rows(_SCORES, number, keys) if row[0] in wanted]
        used = self._used.setdefault(number, [])
        used.extend(pair for pair, _, _, day in rows if day < today)
        return {pair: (score, cut) for pair, score, cut, _ in rows}

    def find_passages(
        self, identity: ScoringIdentity, keys: Sequence[bytes]
    ) -> dict[bytes, PassageRow]:
        """Return the passages that the scores of these keys are from, where they are known.

        All keys must be those of one query.
        """
        with translated(self.path):
            number = self._number(identity)
            if number is None or not keys or not database.has_passages(self._database):
                return {}
            return {row[0]: row[1:] for row in self._rows(_PASSAGES, number, keys)}

    def _rows(self, columns: str, number: int, keys: Sequence[bytes]) -> Sequence[Any]:
        """Return the rows of these keys, and maybe more."""
        # Reading all rows of a query in their order is the fastest way, unless there are many more.
        most = _MORE_ROWS * (len(keys) + 1)
        of_query = f"{columns} AND pair BETWEEN ? AND ? LIMIT ?"
        rows = self._database.execute(of_query, (number, *query_range(keys[0]), most)).fetchall()
        if len(rows) < most:
            return rows
        return [
            row
            for some in _chunks(keys)
            for row in self._database.execute(f"{columns} AND {_SOME}", (number, *some))
        ]

    def add(
        self,
        identity: ScoringIdentity,
        scores: Iterable[tuple[bytes, float, int | bool]],
        passages: Iterable[tuple[bytes, PassageRow]] = (),
    ) -> None:
        """Add keys with the numbers of a `CachedScore`; return when they are in the file.

        If documents were cut into passages, `passages` has the passage of each key.

        Raises `CacheNotWritable` if the disk is full or another process has locked the file.
        """
        rows = [
            (pair, score, int(cut))
            for pair, score, cut in scores
            # SQLite stores -0.0 as 0.0, so neither is kept.
            if score
        ]
        if not self.writable or not rows:
            return
        today = self.today
        with translated(self.path), transaction(self._database):
            self._database.execute(
                "INSERT OR IGNORE INTO identities (digest, content) VALUES (?, ?)",
                (identity.digest, identity.model_dump_json()),
            )
            number = self._number(identity)
            rows.sort()
            self._database.executemany(
                f"REPLACE INTO scores VALUES ({number}, ?, ?, ?, {today})", rows
            )
            if identity.passages is not None:
                database.create_passages(self._database)
                self._database.executemany(
                    f"REPLACE INTO passages VALUES ({number}, ?, ?, ?, ?, ?, ?)",
                    sorted((pair, *row) for pair, row in passages),
                )

    @property
    def has_unnoted_uses(self) -> bool:
        """Return whether `note_use` should be called, because many scores were used."""
        return any(len(keys) >= _USED_AT_ONCE for keys in self._used.values())

    def note_use(self) -> None:
        """Store which scores were used today. Raises `CacheNotWritable`."""
        used, self._used = self._used, {}
        if not self.writable or not any(used.values()):
            return
        today = self.today
        with translated(self.path), transaction(self._database):
            for number, keys in used.items():
                keys.sort()
                for some in _chunks(keys):
                    self._database.execute(_USE_SOME, (today, number, *some, today))

    def _number(self, identity: ScoringIdentity) -> int | None:
        found = self._database.execute(
            "SELECT id FROM identities WHERE digest = ?", (identity.digest,)
        ).fetchone()
        return found and int(found[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _chunks(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield all keys, always the same number at once, so that SQLite parses a statement once."""
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = list(keys[start : start + _KEYS_AT_ONCE])
        yield some + some[-1:] * (_KEYS_AT_ONCE - len(some))


_SCORES = "SELECT pair, score, cut, used FROM scores WHERE identity = ?"
_PASSAGES = "SELECT pair, place, start, stop, count, shortened FROM passages WHERE identity = ?"
_SOME = f"pair IN ({', '.join('?' * _KEYS_AT_ONCE)})"
# A clock that was set back does not make a score look older.
_USE_SOME = f"UPDATE scores SET used = ? WHERE identity = ? AND {_SOME} AND used < ?"
