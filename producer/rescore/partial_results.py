"""Read the finished queries of a run while it works, or after it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from contract.errors import InvalidInput
from producer.rescore import journal_lines
from producer.rescore.cascade import first_output
from producer.rescore.journal import journal_path
from producer.rescore.manifest import Manifest
from producer.rescore.options import Cascade
from producer.rescore.resume import manifest_path


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
    cascade = _Cascade(output)
    with file, cascade:
        last = {line["query_id"]: start for start, line in _all(path, file)}
        file.seek(0)
        for start, line in _all(path, file):
            if last.get(line["query_id"]) == start:
                yield cascade.merged(line)


class _Cascade:
    """The first pass of an output, if it is that of a cascade."""

    def __init__(self, output: str) -> None:
        self._path = journal_path(first_output(output))
        self._file: IO[bytes] | None = None
        manifest = Manifest.load(manifest_path(output))
        settings = manifest.settings if manifest else None
        if settings and settings.cascade:
            self._keep = Cascade.parse(settings.cascade).keep
            self._top_k = settings.top_k
            with suppress(FileNotFoundError):
                self._file = self._path.open("rb")

    def merged(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return a line with the documents of both models. Raises `InvalidInput`."""
        if self._file is None or journal_lines.BASIS not in line:
            return line
        basis = line.pop(journal_lines.BASIS)
        if not journal_lines.has_ranking(line):
            return line
        self._file.seek(basis)
        try:
            small = dict(from_json(self._file.readline()))
            return journal_lines.with_small_model(line, small, self._keep, self._top_k)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{self._path}: damaged at byte {basis:,}") from error

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


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
