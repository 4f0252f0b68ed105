"""Open Parquet files and folders of `datasets`, whose rows are read in batches."""

from __future__ import annotations

import os
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


def is_table(path: str) -> bool:
    """Return whether `read_rows` reads this: Parquet, or a folder of `datasets`."""
    return is_parquet(path) or arrow_folder.is_arrow_folder(path)


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
        from pyarrow import parquet

        with parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield (
                file.schema_arrow.names,
                lambda wanted: file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False),
            )


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
