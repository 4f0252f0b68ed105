"""Read the rows of Parquet files and of folders of `datasets`; write rows as Parquet.

pyarrow is imported only when a Parquet file is read or written: it is the extra `parquet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any, NamedTuple, TypeVar

from contract.errors import InvalidInput
from contract.printable import reason_of
from producer.files import remote
from producer.files.compression import RefusedFile
from producer.files.quoting import shown, without_credentials
from producer.formats import table_files
from producer.formats.keys import list_keys
from producer.formats.records import InvalidLines

T = TypeVar("T")

#: Rows of a row group that is written, which is in memory until it is complete.
_GROUP_ROWS = 2**15


class Field(NamedTuple):
    """A value of a record, and the names of the columns that may hold it."""

    #: Its name in `--column`, as in "corpus.text".
    name: str
    columns: tuple[str, ...]
    is_required: bool = True


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
    table_files.require_pyarrow(path)
    import pyarrow

    number = 0
    try:
        with table_files.opened(path) as (names, batches):
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
            if not number:
                raise InvalidInput(f"{shown(path)}: the file is empty")
    except RefusedFile as error:
        raise InvalidInput(f"{shown(path)}:{error}") from error
    except (pyarrow.ArrowException, OSError) as error:
        hint = "run the command again" if remote.is_remote(path) else "check that it is complete"
        reason = without_credentials(reason_of(error))
        raise InvalidInput(
            f"{shown(path)}: the file cannot be read after row {number:,}: {reason}; {hint}"
        ) from error


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
