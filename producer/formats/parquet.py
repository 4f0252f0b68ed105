"""Read Parquet files as texts, runs, judgments or pairs; write rows as Parquet.

pyarrow is imported only when a Parquet file is read or written: it is the extra `parquet`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from contract.errors import InvalidInput
from contract.printable import reason_of
from producer.files.quoting import shown
from producer.formats import arrow_folder
from producer.formats.keys import list_keys
from producer.formats.records import InvalidLines

T = TypeVar("T")

_MAGIC = b"PAR1"
#: Rows that are decoded at once; their texts are in memory.
_BATCH_ROWS = 1024
#: Rows of a row group that is written, which is in memory until it is complete.
_GROUP_ROWS = 2**15
_BUFFER_BYTES = 2**17


class Field(NamedTuple):
    """A value of a record, and the names of the columns that may hold it."""

    #: Its name in `--column`, as in "corpus.text".
    name: str
    columns: tuple[str, ...]
    is_required: bool = True


def is_table(path: str) -> bool:
    """Return whether `read_rows` reads this: Parquet, or a folder of `datasets`."""
    return is_parquet(path) or arrow_folder.is_arrow_folder(path)


def is_parquet(path: str) -> bool:
    """Return whether this is a complete, uncompressed Parquet file."""
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


def read_rows(
    path: str,
    fields: Sequence[Field],
    chosen: Mapping[str, str],
    parse: Callable[..., T],
    bad: InvalidLines,
) -> Iterator[tuple[int, T]]:
    """Yield the number of each row, from 1, and its record. Raises `InvalidInput`.

    `parse` is called with the values of `fields`, None for absent columns. It raises `ValueError`
    with a message about its row. `chosen` are the columns that the user has named for fields.
    """
    require_pyarrow(path)
    import pyarrow

    number = 0
    before = os.stat(path)  # noqa: PTH116  # compared with the same call below
    try:
        with _opened(path) as (names, batches):
            columns = _columns(path, fields, chosen, names)
            wanted = list(dict.fromkeys(filter(None, columns)))
            for batch in batches(wanted):
                lists = {name: batch.column(name).to_pylist() for name in wanted}
                nulls = [None] * batch.num_rows
                for values in zip(*(lists.get(name, nulls) for name in columns), strict=True):
                    number += 1
                    try:
                        record = parse(*map(_decoded, values))
                    except ValueError as error:
                        bad.add(f"{shown(path)}:{number}: {error}")
                        continue
                    yield number, record
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInput(
            f"{shown(path)}: the file cannot be read after row {number:,}: {reason_of(error)};"
            " check that it is complete"
        ) from error
    if not number:
        raise InvalidInput(f"{shown(path)}: the file is empty")
    after = os.stat(path)  # noqa: PTH116
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InvalidInput(
            f"{shown(path)}: the file changed while it was being read; run the command again"
        )


@contextmanager
def _opened(path: str) -> Iterator[tuple[list[str], Callable[[list[str]], Iterator[Any]]]]:
    """Yield the names of the columns, and a function that yields batches of some of them."""
    if arrow_folder.is_arrow_folder(path):
        names = arrow_folder.column_names(path)
        yield names, lambda wanted: arrow_folder.batches(path, wanted, _BATCH_ROWS)
        return
    from pyarrow import parquet

    with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        yield (
            file.schema_arrow.names,
            lambda wanted: file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False),
        )


def _columns(
    path: str, fields: Sequence[Field], chosen: Mapping[str, str], names: Sequence[str]
) -> list[str]:
    """Return the column of each field, "" for one that is absent. Raises `InvalidInput`."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InvalidInput(f"{shown(path)}: two columns have the name {shown(twice[0])}")
    has = list_keys(dict.fromkeys(names))
    found = []
    for field in fields:
        if field.name in chosen:
            if chosen[field.name] not in names:
                raise InvalidInput(
                    f"{shown(path)}: there is no column {shown(chosen[field.name])} (--column"
                    f" {field.name}); its columns are {has}"
                )
            found.append(chosen[field.name])
            continue
        column = next((name for name in field.columns if name in names), "")
        if not column and field.is_required:
            raise InvalidInput(
                f"{shown(path)}: there is no column for {field.name}; its columns are {has}; rename"
                f" one to {field.columns[0]}, or pass --column {field.name}=COLUMN"
            )
        found.append(column)
    return found


def _decoded(value: Any) -> Any:
    """Return text for the bytes of a column that is not marked as text."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError("a value is not valid UTF-8; write the column as strings") from error


def write_rows(file: IO[bytes], columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, a row group at a time. `columns` are names with pyarrow's names of types."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()]
    )
    remaining = iter(rows)
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(remaining, _GROUP_ROWS)):
            arrays = [
                pyarrow.array(column, each.type)
                for column, each in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.table(arrays, schema=schema))
