"""Read the finished queries of a run while it works, or after it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from contract.errors import InvalidInput
from producer.rescore.journal import journal_path


def lines(output: str) -> Iterator[dict[str, Any]]:
    """Yield the last line of each query in the journal of an output, in the order of arrival.

    A line that is still being written is left out. Raises `InvalidInput` if there is no journal, or
    if a line of it is damaged.
    """
    path = journal_path(output)
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        ended = "the run has ended" if Path(output).exists() else "no run has begun"
        raise InvalidInput(f"{path}: no such file; {ended}, or it writes another output") from error
    with file:
        last = {line["query_id"]: start for start, line in _all(path, file)}
        file.seek(0)
        for start, line in _all(path, file):
            if last.get(line["query_id"]) == start:
                yield line


def _all(path: Path, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each complete line with its offset."""
    start = 0
    while (raw := file.readline()).endswith(b"\n"):
        try:
            line = from_json(raw)
            known = isinstance(line["query_id"], str)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{path}: damaged at byte {start:,}") from error
        if known:
            yield start, line
        start += len(raw)
