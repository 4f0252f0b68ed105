"""Measure a cache, and remove scores that have not been used for a long time, or that are too many.

The whole file is read, so this takes seconds for ten million pairs. Memory does not grow with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from contract.errors import CacheNotWritable, InvalidInput
from contract.scoring import ScoringIdentity
from producer.score_cache import database
from producer.score_cache.database import transaction, translated
from producer.score_cache.keys import KEY_BYTES

#: A transaction removes the scores whose keys begin with one of these bytes.
_FIRST_BYTES = tuple(bytes([first]) for first in range(256))
_AFTER_ALL = b"\xff" * (KEY_BYTES + 1)
#: This share more is removed than the sizes say, so that once is mostly enough.
_MARGIN = 0.01


@dataclass(frozen=True)
class IdentityUse:
    """The scores of one identity."""

    identity: ScoringIdentity
    pairs: int
    #: The last day of use, counted from 1970.
    last_used: int


@dataclass(frozen=True)
class CacheStats:
    """The size of a file, and its contents, most recently used first."""

    bytes: int
    pairs: int
    identities: tuple[IdentityUse, ...]


@dataclass(frozen=True)
class Pruned:
    """The scores that a prune has removed, and the size of the file."""

    pairs: int
    pairs_left: int
    bytes_before: int
    bytes_after: int
    #: The number of scores whose last use was in the future, and is now today.
    from_future: int
    #: Why the file could not be made smaller, although scores were removed.
    not_shrunk: str | None


class Maintenance:
    """A file of cached scores, to measure and to prune. Use it in a `with` block."""

    def __init__(self, path: Path, today: int) -> None:
        self._path = path
        self._today = today
        self._database, self._writable = database.connect(path, create=False)

    def stats(self) -> CacheStats:
        """Return the size and the contents of the file."""
        with translated(self._path):
            rows = self._database.execute(
                "SELECT content, count(*), max(used) FROM scores JOIN identities ON id = identity"
                " GROUP BY identity ORDER BY max(used) DESC, id DESC"
            ).fetchall()
        found = tuple(
            IdentityUse(ScoringIdentity.model_validate_json(content), pairs, used)
            for content, pairs, used in rows
        )
        return CacheStats(self._bytes(), sum(each.pairs for each in found), found)

    def prune(self, older_than_days: int | None, max_bytes: int | None) -> Pruned:
        """Remove scores, the least recently used first, and give their space back.

        Those that were not used for more than `older_than_days` days are removed, then as many as
        it takes for a file of at most `max_bytes`.
        """
        if not self._writable:
            raise InvalidInput(f"{self._path}: this file is read-only")
        before, pairs_before = self._bytes(), self._pairs()
        with translated(self._path):
            from_future = self._correct_future()
            if older_than_days is not None:
                self._remove(self._today - older_than_days)
            self._remove_passages()
            not_shrunk = self._shrink(max_bytes, changed=self._pairs() < pairs_before)
            with transaction(self._database):
                self._database.execute(
                    "DELETE FROM identities WHERE NOT EXISTS"
                    " (SELECT 1 FROM scores WHERE identity = identities.id)"
                )
        left = self._pairs()
        return Pruned(pairs_before - left, left, before, self._bytes(), from_future, not_shrunk)

    def _correct_future(self) -> int:
        """Change uses in the future, after the clock was wrong, to today."""
        with transaction(self._database):
            # Tomorrow may have begun while this runs.
            return self._database.execute(
                "UPDATE scores SET used = ? WHERE used > ?", (self._today, self._today + 1)
            ).rowcount

    def _remove(self, before: int, at_most: int | None = None) -> None:
        """Remove scores last used before that day: about `at_most`, or all."""
        removed = 0
        for low, high in pairwise((*_FIRST_BYTES, _AFTER_ALL)):
            for (identity,) in self._database.execute("SELECT id FROM identities").fetchall():
                with transaction(self._database):
                    removed += self._database.execute(
                        "DELETE FROM scores"
                        " WHERE identity = ? AND pair >= ? AND pair < ? AND used < ?",
                        (identity, low, high, before),
                    ).rowcount
            if at_most is not None and removed >= at_most:
                return

    def _remove_passages(self) -> None:
        """Remove the passages of scores that were removed."""
        if not database.has_passages(self._database):
            return
        for low, high in pairwise((*_FIRST_BYTES, _AFTER_ALL)):
            for (identity,) in self._database.execute("SELECT id FROM identities").fetchall():
                with transaction(self._database):
                    self._database.execute(
                        "DELETE FROM passages WHERE identity = ? AND pair >= ? AND pair < ?"
                        " AND NOT EXISTS (SELECT 1 FROM scores WHERE"
                        " scores.identity = passages.identity AND scores.pair = passages.pair)",
                        (identity, low, high),
                    )

    def _shrink(self, max_bytes: int | None, *, changed: bool) -> str | None:
        """Give unused space back, and remove more scores if the file is still too large."""
        try:
            if changed or (max_bytes is not None and self._bytes() > max_bytes):
                self._vacuum()
            while max_bytes is not None and self._bytes() > max_bytes and self._pairs():
                self._remove_until(max_bytes * (1 - _MARGIN) / self._bytes())
                self._vacuum()
        except CacheNotWritable as error:
            return str(error)
        return None

    def _remove_until(self, kept: float) -> None:
        """Remove the least recently used scores, so that this share of all is left."""
        excess = max(1, round((1 - kept) * self._pairs()))
        days = self._database.execute(
            "SELECT used, count(*) FROM scores GROUP BY used ORDER BY used"
        ).fetchall()
        for day, pairs in days:
            self._remove(day + 1, at_most=excess)
            excess -= pairs
            if excess <= 0:
                break
        self._remove_passages()

    def _vacuum(self) -> None:
        """Copy the file without its unused space. Raises `CacheNotWritable`."""
        with translated(self._path):
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _pairs(self) -> int:
        with translated(self._path):
            count: int = self._database.execute("SELECT count(*) FROM scores").fetchone()[0]
        return count

    def _bytes(self) -> int:
        """Return the size of the file and its log."""
        names = (self._path, Path(f"{self._path}-wal"))
        return sum(each.stat().st_size for each in names if each.exists())

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
