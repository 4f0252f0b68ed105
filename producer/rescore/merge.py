"""Merge the outputs of all shards into files that are byte-identical to those of the whole run.

Each query is in one part, and a part has its queries in the order of the input. All parts are read
at the same time, one query at a time, so memory does not grow with their size.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any, TypeVar

from contract.errors import InvalidInput
from producer.files.outputs import OutputFile, atomic_file
from producer.formats.parquet import write_rows
from producer.rescore import part_files, run_writers, shard_record
from producer.rescore.part_files import PartFile
from producer.rescore.parts import Part
from producer.rescore.progress import Progress
from producer.rescore.run_writers import is_parquet_name

T = TypeVar("T")
#: Returns the number of records of a query in a file from the number of its ranked documents.
_Count = Callable[[int], int]


def check_formats(parts: Sequence[Part], output: str, results: str | None) -> None:
    """Raise `InvalidInput` if the name of a merged file implies another format than the parts."""
    pairs = [(output, parts[0].record.format == "parquet")]
    if results:
        pairs += [(results, is_parquet_name(part.results or "")) for part in parts]
    for name, are_parquet in pairs:
        if is_parquet_name(name) and not are_parquet:
            raise InvalidInput(f"{name}: the parts are not Parquet; choose a name without .parquet")
        if name == results and are_parquet and not is_parquet_name(name):
            raise InvalidInput(
                f"{name}: the parts are Parquet; choose a name that ends with .parquet"
            )


def write(parts: Sequence[Part], output: OutputFile, results: OutputFile | None = None) -> None:
    """Write the merged files; the run only if a query was scored, as `rescore` does.

    Raises `InvalidInput` if a part is not as its record says.
    """
    if progress_of(parts).queries:
        _write_run(parts, output)
    if results:
        _write_results(parts, results)


def _write_run(parts: Sequence[Part], output: OutputFile) -> None:
    format_name = parts[0].record.format
    names = [part.output for part in parts]
    with atomic_file(output) as file:
        if format_name == "parquet":
            _write_rows(file, run_writers.RUN_COLUMNS, parts, names, lambda ranked: ranked)
        elif format_name == "rank_llm":
            elements = _records(parts, names, part_files.Elements, lambda ranked: min(ranked, 1))
            run_writers.write_array(file, filter(None, elements))
        elif format_name == "batch":  # failed queries have a line too
            file.writelines(_records(parts, names, part_files.Lines, lambda _: 1))
        else:
            for lines in _records(parts, names, part_files.Lines, lambda ranked: ranked):
                file.write(lines)


def _write_results(parts: Sequence[Part], results: OutputFile) -> None:
    names = [part.results for part in parts if part.results]
    with atomic_file(results) as file:
        if is_parquet_name(results.name):
            columns = run_writers.RESULT_COLUMNS
            _write_rows(file, columns, parts, names, lambda ranked: max(ranked, 1))
        else:
            for line in _records(parts, names, part_files.Lines, lambda _: 1):
                file.write(line)


def progress_of(parts: Sequence[Part]) -> Progress:
    """Return the number of queries with and without a ranking in all parts."""
    total = Progress()
    for record in (part.record for part in parts):
        failed = sum(record.failed.values())
        total.add(
            Progress(
                queries=record.queries - failed,
                failed_queries=failed,
                downgraded_queries=record.downgraded_queries,
                first_failure=record.first_failure,
            )
        )
        total.codes.update(record.failed)
    return total


def _write_rows(
    file: IO[bytes],
    columns: Mapping[str, str],
    parts: Sequence[Part],
    names: Sequence[str],
    count: _Count,
) -> None:
    def opened(name: str) -> PartFile[list[Any]]:
        return part_files.Rows(name, list(columns))

    write_rows(
        file, columns, (row for rows in _records(parts, names, opened, count) for row in rows)
    )


def _records(
    parts: Sequence[Part], names: Sequence[str], opened: Callable[[str], PartFile[T]], count: _Count
) -> Iterator[T]:
    """Yield the records of each query from a file of each part, in the order of the input."""
    with ExitStack() as stack:
        files = [stack.enter_context(opened(name)) for name in names]
        queries = [
            _numbered(number, stack.enter_context(shard_record.ranked_queries(part.name)))
            for number, part in enumerate(parts)
        ]
        last = 0
        for place, number, ranked in heapq.merge(*queries):
            if place == last:
                raise InvalidInput(
                    f"{parts[number].name}: a query of another part has the same place in the"
                    " input; run the commands of all shards again"
                )
            last = place
            yield files[number].take(count(ranked))
        for file in files:
            file.check_end()


def _numbered(
    number: int, queries: Iterator[shard_record.RankedQuery]
) -> Iterator[tuple[int, int, int]]:
    for place, ranked in queries:
        yield place, number, ranked
