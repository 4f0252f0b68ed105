"""Read the files of a merged run's parts, the records of one query at a time."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, Generic, Self, TypeVar

from contract.errors import InvalidInput
from producer.files.compression import buffered, decompress

#: The rows of a batch of each part are in memory.
_BATCH_ROWS = 1_024

T = TypeVar("T")


class PartFile(ABC, Generic[T]):
    """A file of a part. Use it in a `with` block.

    Raises `InvalidInput` if the file does not have the records that it should have.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stack = ExitStack()

    @abstractmethod
    def take(self, count: int) -> T:
        """Return the next records."""

    @abstractmethod
    def check_end(self) -> None:
        """Raise `InvalidInput` if the file has more records."""

    def _check(self, is_as_recorded: bool) -> None:
        if not is_as_recorded:
            raise InvalidInput(
                f"{self._path}: its records are not those of its shard; run the command of the"
                " shard again"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Lines(PartFile[bytes]):
    """A file of lines, which may be compressed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        file = self._stack.enter_context(buffered(io.FileIO(path)))
        self._lines: io.BufferedReader = decompress(file)[1]

    def take(self, count: int) -> bytes:
        lines = list(islice(self._lines, count))
        self._check(len(lines) == count)
        return b"".join(lines)

    def check_end(self) -> None:
        self._check(not self._lines.read(1))


class Elements(Lines):
    """A JSON array that `run_writers.write_array` has written."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._is_empty = super().take(1) == b"[]\n"

    def take(self, count: int) -> bytes:
        """Return the next element if `count` is 1, nothing if it is 0."""
        return super().take(count).removesuffix(b"\n").removesuffix(b",")

    def check_end(self) -> None:
        self._check(self._is_empty or super().take(1) == b"]\n")
        super().check_end()


class Rows(PartFile[list[Any]]):
    """A Parquet file with these columns."""

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        super().__init__(path)
        from pyarrow import parquet

        file = self._stack.enter_context(parquet.ParquetFile(path, pre_buffer=False))
        self._check(file.schema_arrow.names == list(columns))
        self._rows = (
            row
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )

    def take(self, count: int) -> list[Any]:
        rows = list(islice(self._rows, count))
        self._check(len(rows) == count)
        return rows

    def check_end(self) -> None:
        self._check(next(self._rows, None) is None)
