"""Read the records of an input file with the reader for its kind of file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from pydantic_core import to_json

from contract import jobs
from producer.formats import ir_dataset, parquet_records
from producer.formats.corpus import read_needed_texts, read_texts
from producer.formats.needed import Needed
from producer.formats.qrels import Judgment, read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair, read_needed_requests, read_requests
from producer.formats.run_line import RunLine
from producer.formats.table_files import is_table
from producer.formats.texts import Text
from producer.formats.trec_run import read_needed_run, read_run

Row = TypeVar("Row")

#: The number of records of a table whose digest is computed at once.
_SEEN_AT_ONCE = 1_000


@dataclass(frozen=True)
class InputReaders:
    """Readers that yield the number of each record, from 1, and the record.

    They raise `InvalidInput`, or add invalid records to `bad`. With `needed`, they may yield None
    instead of a record that is not needed.
    """

    bad: InvalidLines
    max_text_chars: int
    #: The columns of Parquet files that the user has named.
    columns: Mapping[str, str]
    #: The formats of text files that the user has named, by the option without dashes.
    formats: Mapping[str, str]

    def run(self, path: str, needed: Needed | None = None) -> Iterator[tuple[int, RunLine | None]]:
        if ir_dataset.is_dataset(path):
            return _seen(ir_dataset.read_run(path, self.bad), needed)
        if is_table(path):
            return _seen(parquet_records.read_run(path, self.bad, self.columns), needed)
        if needed:
            return read_needed_run(path, self.bad, self.formats.get("run"), needed)
        return read_run(path, self.bad, self.formats.get("run"))

    def needed_documents(self, path: str, needed: Needed) -> Iterator[tuple[int, Text | None]]:
        if ir_dataset.is_dataset(path) or is_table(path):
            return _seen(self.texts(path, "corpus"), needed)
        return read_needed_texts(
            path, self.bad, self.max_text_chars, self.formats.get("corpus"), needed
        )

    def texts(self, path: str, option: str) -> Iterator[tuple[int, Text]]:
        if ir_dataset.is_dataset(path):
            return ir_dataset.read_texts(path, self.bad, self.max_text_chars, option)
        if is_table(path):
            return parquet_records.read_texts(
                path, self.bad, self.max_text_chars, option, self.columns
            )
        return read_texts(path, self.bad, self.max_text_chars, self.formats.get(option))

    def requests(
        self, path: str, needed: Needed | None = None
    ) -> Iterator[tuple[int, jobs.Request | Pair | None]]:
        if is_table(path):
            return _seen(parquet_records.read_pairs(path, self.bad, self.columns), needed)
        if needed:
            return read_needed_requests(path, self.bad, needed)
        return read_requests(path, self.bad)

    def qrels(self, path: str) -> Iterator[tuple[int, Judgment]]:
        if ir_dataset.is_dataset(path):
            return ir_dataset.read_qrels(path, self.bad)
        if is_table(path):
            return parquet_records.read_qrels(path, self.bad, self.columns)
        return read_qrels(path, self.bad)


def _seen(records: Iterator[tuple[int, Row]], needed: Needed | None) -> Iterator[tuple[int, Row]]:
    """Yield all records, and show them to `needed`, many at once."""
    if needed is None:
        yield from records
        return
    while some := list(islice(records, _SEEN_AT_ONCE)):
        needed.see(to_json([record for _, record in some]))
        yield from some
