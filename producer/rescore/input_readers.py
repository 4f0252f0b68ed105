"""Read the records of an input file with the reader for its kind of file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from pydantic_core import to_json

from contract import jobs
from contract.errors import InvalidInput
from producer.files.quoting import shown
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
#: The number of each record, and the record.
Records = Iterator[tuple[int, Row]]

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
            rows = ir_dataset.read_run(path, self.bad)
            return _seen(self._of_dataset(path, "run", rows), needed)
        if is_table(path):
            rows = parquet_records.read_run(path, self.bad, self.columns)
            return _seen(self._of_table(path, "run", rows), needed)
        if needed:
            lines = read_needed_run(path, self.bad, self.formats.get("run"), needed)
            return self._of_lines(path, "run", lines)
        return self._of_lines(path, "run", read_run(path, self.bad, self.formats.get("run")))

    def needed_documents(self, path: str, needed: Needed) -> Iterator[tuple[int, Text | None]]:
        if ir_dataset.is_dataset(path) or is_table(path):
            return _seen(self.texts(path, "corpus"), needed)
        chosen = self.formats.get("corpus")
        texts = read_needed_texts(path, self.bad, self.max_text_chars, chosen, needed)
        return self._of_lines(path, "corpus", texts)

    def texts(self, path: str, option: str) -> Iterator[tuple[int, Text]]:
        if ir_dataset.is_dataset(path):
            rows = ir_dataset.read_texts(path, self.bad, self.max_text_chars, option)
            return self._of_dataset(path, option, rows)
        if is_table(path):
            rows = parquet_records.read_texts(
                path, self.bad, self.max_text_chars, option, self.columns
            )
            return self._of_table(path, option, rows)
        texts = read_texts(path, self.bad, self.max_text_chars, self.formats.get(option))
        return self._of_lines(path, option, texts)

    def requests(
        self, path: str, needed: Needed | None = None
    ) -> Iterator[tuple[int, jobs.Request | Pair | None]]:
        if is_table(path):
            return _seen(parquet_records.read_pairs(path, self.bad, self.columns), needed)
        if needed:
            return self._of_lines(path, "input", read_needed_requests(path, self.bad, needed))
        return self._of_lines(path, "input", read_requests(path, self.bad))

    def qrels(self, path: str) -> Iterator[tuple[int, Judgment]]:
        if ir_dataset.is_dataset(path):
            return self._of_dataset(path, "qrels", ir_dataset.read_qrels(path, self.bad))
        if is_table(path):
            return parquet_records.read_qrels(path, self.bad, self.columns)
        return self._of_lines(path, "qrels", read_qrels(path, self.bad))

    def _of_lines(self, path: str, option: str, records: Records[Row]) -> Records[Row]:
        """Return the records of a text file, which has no columns to choose."""
        named = [name for name in self.columns if name.startswith(f"{option}.")]
        return _refused(path, f"--column {named[0]}", "Parquet", records) if named else records

    def _of_table(self, path: str, option: str, records: Records[Row]) -> Records[Row]:
        """Return the rows of a Parquet file or a folder, which has no format to choose."""
        if option not in self.formats:
            return records
        return _refused(path, f"--input-format {option}", "text", records)

    def _of_dataset(self, path: str, option: str, records: Records[Row]) -> Records[Row]:
        return self._of_lines(path, option, self._of_table(path, option, records))


def _refused(path: str, option: str, kind: str, records: Records[Row]) -> Records[Row]:
    """Refuse a file for which an option has no effect; a file that cannot be read says why."""
    for _ in records:
        raise InvalidInput(
            f"{shown(path)}: {option} has no effect, because this is not a {kind} file; leave it"
            " out"
        )
    yield from ()


def _seen(records: Iterator[tuple[int, Row]], needed: Needed | None) -> Iterator[tuple[int, Row]]:
    """Yield all records, and show them to `needed`, many at once."""
    if needed is None:
        yield from records
        return
    while some := list(islice(records, _SEEN_AT_ONCE)):
        needed.see(to_json([record for _, record in some]))
        yield from some
