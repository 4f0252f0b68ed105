"""Open the file of a cache, and translate the errors of SQLite."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from contract.errors import CacheNotWritable, CacheUnusable, InvalidInput
from producer.files.file_systems import network_file_system
from producer.files.outputs import check_writable
from producer.files.streams import is_stream
from producer.score_cache.read_ahead import read_ahead

#: Marks a SQLite file as a cache: "rrkq".
APPLICATION_ID = 0x72726B71
#: The version of the tables.
VERSION = 1

_SCHEMA = f"""
CREATE TABLE identities (
  -- Never used again, because another process may still have the number.
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, content TEXT NOT NULL
);
CREATE TABLE scores (
  identity INTEGER NOT NULL, pair BLOB NOT NULL, score REAL NOT NULL,
  cut INTEGER NOT NULL, -- 0, or 1 and about how many tokens of the pair were not read
  used INTEGER NOT NULL, -- the day of the last use, counted from 1970 in UTC
  PRIMARY KEY (identity, pair)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""
#: The passages that scores are from. It is created when it is needed, because earlier versions do
#: not know it.
_PASSAGES = """
CREATE TABLE IF NOT EXISTS passages (
  identity INTEGER NOT NULL, pair BLOB NOT NULL, place INTEGER NOT NULL,
  start INTEGER NOT NULL, stop INTEGER NOT NULL, -- in characters of the document
  count INTEGER NOT NULL, shortened INTEGER NOT NULL,
  PRIMARY KEY (identity, pair)
) WITHOUT ROWID
"""
#: How long to wait for another process. Each of its transactions takes milliseconds, but a prune
#: copies the whole file.
BUSY_S = 60.0
_MEMORY_KB = 16 * 1024
#: The size to which the write-ahead log is cut.
_LOG_BYTES = 64 * 1024 * 1024

#: Errors of SQLite after which the file can still be read.
_NOT_WRITABLE = {
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE),
}
_NOT_A_CACHE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
#: The lowest byte of an extended code is that of its error.
_PRIMARY = 0xFF


def connect(
    path: Path, *, create: bool = True, queries: int = 0
) -> tuple[sqlite3.Connection, bool]:
    """Open the file, or create it; return the connection, and whether the file can be written.

    `queries` is how many will be looked up, for which the file may be read ahead.

    Raises `InvalidInput` if it is not a cache of this version, or cannot be used.
    """
    if is_stream(str(path)):
        raise InvalidInput(f"{path}: a cache must be a regular file")
    found = path.exists()
    if not found:
        if not create:
            raise InvalidInput(f"{path}: there is no such file")
        check_writable(str(path))
    elif not path.is_file():
        raise InvalidInput(f"{path}: this is not a regular file")
    elif not os.access(path, os.R_OK):
        raise InvalidInput(f"{path}: Permission denied; make the file readable for this user")
    if kind := network_file_system(path.resolve()):
        raise InvalidInput(
            f"{path}: this file is on a network file system ({kind}), where several processes would"
            " damage it; choose a file on a local disk"
        )
    if found and queries:
        with suppress(OSError):  # SQLite will say what is wrong
            read_ahead(path, queries)
    try:
        with translated(path):
            return _open(path, writable=not found or _is_writable(path))
    except CacheUnusable as error:
        raise InvalidInput(str(error)) from error


def _open(path: Path, *, writable: bool) -> tuple[sqlite3.Connection, bool]:
    database = _connect_writable(path) if writable else _connect_read_only(path)
    try:
        if writable:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            with transaction(database):  # two processes may create it at the same time
                if not _tables(database) and not _number(database, "application_id"):
                    for statement in _SCHEMA.split(";\n"):
                        database.execute(statement)
        database.execute(f"PRAGMA cache_size = -{_MEMORY_KB}")
        _check(database, path)
    except BaseException:
        database.close()
        raise
    return database, writable


def _connect_writable(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)


def _connect_read_only(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        _number(database, "user_version")
    except sqlite3.OperationalError:
        database.close()
        if Path(f"{path.resolve()}-wal").exists():
            raise
        # SQLite cannot create the file for its locks here, so no other process can write either.
        database = sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    return database


def _is_writable(path: Path) -> bool:
    """Return whether the file may be written. The mode counts for the superuser too."""
    mode = path.stat().st_mode
    every = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    return bool(mode & every) and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _check(database: sqlite3.Connection, path: Path) -> None:
    if _number(database, "application_id") != APPLICATION_ID:
        raise InvalidInput(
            f"{path}: this is a SQLite file, but not one of cached scores; choose another file"
        )
    version = _number(database, "user_version")
    if version != VERSION:
        raise InvalidInput(
            f"{path}: version {version} of the cache, but this version of rerankq reads version"
            f" {VERSION}; choose another file"
        )


def create_passages(database: sqlite3.Connection) -> None:
    """Create the table of passages, if it does not exist."""
    database.execute(_PASSAGES)


def has_passages(database: sqlite3.Connection) -> bool:
    """Return whether there is a table of passages."""
    found = database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'passages'").fetchone()
    return found is not None


def _tables(database: sqlite3.Connection) -> int:
    count: int = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return count


def _number(database: sqlite3.Connection, pragma: str) -> int:
    value: int = database.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit the changes of the block together, or none of them after an error."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite itself rolls back after some errors
            database.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate the errors of SQLite into `CacheUnusable`, with the name of the file."""
    try:
        yield
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & _PRIMARY
        if code in _NOT_A_CACHE:
            raise CacheUnusable(
                f"{path}: this is not a file of cached scores, or it is damaged ({error}); delete"
                " it, or choose another file"
            ) from error
        if _NOT_WRITABLE & {code, extended}:
            raise CacheNotWritable(f"{path}: {_reason(code, error)}") from error
        raise CacheUnusable(f"{path}: {error}") from error


def _reason(code: int, error: sqlite3.Error) -> str:
    if code == sqlite3.SQLITE_FULL:
        return "no space left on the disk of this cache"
    if code == sqlite3.SQLITE_BUSY:
        return f"another process has locked this cache for more than {BUSY_S:g} s"
    return f"this cache cannot be written ({error})"
