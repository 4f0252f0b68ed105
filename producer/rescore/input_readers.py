"""Read the records of an input file with the reader for its kind of file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from contract import jobs
from producer.formats import ir_dataset, parquet_records
from producer.formats.corpus import read_texts
from producer.formats.qrels import Judgment, read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair, read_requests
from producer.formats.run_line import RunLine
from producer.formats.table_files import is_table
from producer.formats.texts import Text
from producer.formats.trec_run import read_run


@dataclass(frozen=True)
class InputReaders:
    """Readers that yield the number of each record, from 1, and the record.

    They raise `InvalidInput`, or add invalid records to `bad`.
    """

    bad: InvalidLines
    max_text_chars: int
    #: The columns of Parquet files that the user has named.
    columns: Mapping[str, str]
    #: The formats of text files that the user has named, by the option without dashes.
    formats: Mapping[str, str]

    def run(self, path: str) -> Iterator[tuple[int, RunLine]]:
        if ir_dataset.is_dataset(path):
            return ir_dataset.read_run(path, self.bad)
        if is_table(path):
            return parquet_records.read_run(path, self.bad, self.columns)
        return read_run(path, self.bad, self.formats.get("run"))

    def texts(self, path: str, option: str) -> Iterator[tuple[int, Text]]:
        if ir_dataset.is_dataset(path):
            return ir_dataset.read_texts(path, self.bad, self.max_text_chars, option)
        if is_table(path):
            return parquet_records.read_texts(
                path, self.bad, self.max_text_chars, option, self.columns
            )
        return read_texts(path, self.bad, self.max_text_chars, self.formats.get(option))

    def requests(self, path: str) -> Iterator[tuple[int, jobs.Request | Pair]]:
        if is_table(path):
            return parquet_records.read_pairs(path, self.bad, self.columns)
        return read_requests(path, self.bad)

    def qrels(self, path: str) -> Iterator[tuple[int, Judgment]]:
        if ir_dataset.is_dataset(path):
            return ir_dataset.read_qrels(path, self.bad)
        if is_table(path):
            return parquet_records.read_qrels(path, self.bad, self.columns)
        return read_qrels(path, self.bad)
