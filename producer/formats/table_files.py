"""Open Parquet files, folders of them and folders of `datasets`, to read rows in batches."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.errors import InvalidInput
from producer.files import remote
from producer.files.compression import RefusedFile
from producer.files.quoting import shown
from producer.formats import arrow_folder

_MAGIC = b"PAR1"
#: Rows that are decoded at once; their texts are in memory.
_BATCH_ROWS = 1024
_BUFFER_BYTES = 2**17
#: The names of files in a folder that are read; Spark writes others too.
_PART = re.compile(r"[^._].*\.parquet")


def is_table(path: str) -> bool:
    """Return whether rows can be read from this: Parquet files, or a folder of `datasets`."""
    return is_parquet(path) or arrow_folder.is_arrow_folder(path) or bool(_parts(path))


def is_parquet(path: str) -> bool:
    """Return whether this is a complete, uncompressed Parquet file."""
    if remote.is_remote(path):
        return remote.has_ends(path, _MAGIC)
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            if file.read(4) != _MAGIC or file.seek(0, os.SEEK_END) < 12:
                return False
            file.seek(-4, os.SEEK_END)
            return file.read() == _MAGIC
    except (OSError, ValueError):
        return False  # reading it as text will report the reason


def require_pyarrow(path: str) -> None:
    """Raise `InvalidInput` unless Parquet files can be read and written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            f"{shown(path)}: Parquet files require pyarrow; install it with"
            " `pip install 'rerankq[parquet]'`"
        ) from error


@contextmanager
def opened(path: str) -> Iterator[tuple[list[str], Callable[[list[str]], Iterator[Any]]]]:
    """Yield the names of the columns, and a function that yields batches of some of them."""
    with _unchanged(path) as source:
        if arrow_folder.is_arrow_folder(path):
            names = arrow_folder.column_names(path)
            yield names, lambda wanted: arrow_folder.batches(path, wanted, _BATCH_ROWS)
            return
        if parts := _parts(path):
            yield _names(parts[0]), lambda wanted: _batches_of_parts(parts, wanted)
            return
        yield _names(source), lambda wanted: _batches(source, wanted)


def _parts(path: str) -> list[str]:
    """Return the Parquet files in a folder, in the order of their names."""
    if remote.is_remote(path):
        return []
    try:
        found = [str(each) for each in Path(path).iterdir() if _PART.fullmatch(each.name)]
    except (OSError, ValueError):
        return []
    return sorted(found)


def _parquet_file(source: Any) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def _names(source: Any) -> list[str]:
    with _parquet_file(source) as file:
        return list(file.schema_arrow.names)


def _batches(source: Any, wanted: list[str]) -> Iterator[Any]:
    with _parquet_file(source) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False)


def _batches_of_parts(parts: list[str], wanted: list[str]) -> Iterator[Any]:
    for part in parts:
        missing = [name for name in wanted if name not in _names(part)]
        if missing:
            raise InvalidInput(
                f"{shown(part)}: there is no column {shown(missing[0])}, which the first file of"
                " the folder has"
            )
        with _unchanged(part):
            yield from _batches(part, wanted)


@contextmanager
def _unchanged(path: str) -> Iterator[Any]:
    """Yield the path, or a remote file. Raises `RefusedFile` if it changes during the block."""
    if remote.is_remote(path):
        with remote.opened_in_parts(path) as file:
            yield file
        return
    before = os.stat(path)  # noqa: PTH116  # compared with the same call below
    yield path
    after = os.stat(path)  # noqa: PTH116
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise RefusedFile(" the file changed while it was being read; run the command again")
