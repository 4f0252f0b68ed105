"""The results of a re-scoring as they arrive, and the files made of them at the end.

The journal is JSONL beside the output: one line a query, appended in the order of arrival, readable
at any time. The finished files come from it in the order of the input, and take their names whole.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from contract import jobs
from contract.errors import InvalidInput
from producer.formats import STDIN
from producer.staging import Staging

#: Standard output, in place of a file.
STDOUT = STDIN


class Journal:
    """Appends results, and reads them back. Use it in a `with` block.

    Raises `InvalidInput` at the start if the output cannot be written.
    """

    def __init__(self, output: str, staging: Staging) -> None:
        self._staging = staging
        self.path = None if is_stream(output) else Path(f"{output}.partial.jsonl")
        try:
            if self.path is None:
                self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
            else:
                self._file = self.path.open("w+b")
        except OSError as error:
            raise InvalidInput(f"{self.path}: {error.strerror}") from error

    def add_result(self, result: jobs.JobResult) -> None:
        """Append a line for each query of a job."""
        source = result.provenance.model_dump(include=_OF_A_QUERY)
        for ranking in result.rankings:
            self._append(
                ranking.query_id or "",
                {
                    "query_id": ranking.query_id,
                    "documents": [each.model_dump(exclude_none=True) for each in ranking.documents],
                    "provenance": source,
                },
            )
        self._file.flush()

    def add_failure(self, query_ids: list[str], failure: jobs.Failure) -> None:
        """Append a line for each query that has no ranking."""
        error = failure.model_dump(include={"code", "message", "retryable"})
        for query_id in query_ids:
            self._append(query_id, {"query_id": query_id, "error": error})
        self._file.flush()

    def _append(self, query_id: str, line: dict[str, Any]) -> None:
        self._staging.note_scored(query_id, self._file.seek(0, os.SEEK_END))
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """All lines, raw and parsed, in the order of the input."""
        for _, start in self._staging.scored():
            self._file.seek(start)
            raw = self._file.readline()
            yield raw, json.loads(raw)

    def write_run(self, output: str) -> None:
        """Write the TREC run: ranks from 1, scores as the model gave them, the model as tag."""
        with _whole_file(output) as file:
            for _, line in self.lines():
                file.writelines(_trec_lines(line))

    def write_results(self, output: str) -> None:
        """Write the lines themselves."""
        with _whole_file(output) as file:
            for raw, _ in self.lines():
                file.write(raw)

    def keep(self, say: Callable[[str], object]) -> None:
        """Say where the lines so far are; an empty file is removed."""
        if self.path is None:
            return
        self._file.flush()
        if self.path.stat().st_size:
            say(f"what was scored so far is in {self.path}")
        else:
            self.remove()

    def remove(self) -> None:
        """Remove the file: what it held stands in the finished ones."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


#: What of a job's provenance holds for each of its queries.
_OF_A_QUERY = {
    "model_requested",
    "model",
    "downgraded",
    "reason",
    "attempts",
    "backend",
    "device",
    "dtype",
    "max_length",
}


def run_tag(provenance: dict[str, Any]) -> str:
    """The tag of a run's lines: names the model that scored them."""
    name = str(provenance["model"]).rstrip("/").rsplit("/", 1)[-1]
    return "rerankq-" + "_".join(name.split())


def _trec_lines(line: dict[str, Any]) -> Iterator[bytes]:
    for document in line.get("documents", ()):
        yield (
            f"{line['query_id']} Q0 {document['id']} {document['rank']} {document['score']!r}"
            f" {run_tag(line['provenance'])}\n"
        ).encode()


def is_stream(output: str) -> bool:
    """Whether it is written to as it is: standard output, a device, a named pipe."""
    path = Path(output)
    return output == STDOUT or (path.exists() and not path.is_file() and not path.is_dir())


def check_writable(output: str) -> None:
    """Raise `InvalidInput` unless a file of that name can be made."""
    if is_stream(output):
        return
    path = Path(output)
    if path.is_dir():
        raise InvalidInput(f"{output}: this is a directory, not a file")
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"{output}: the folder does not exist")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InvalidInput(f"{output}: the folder cannot be written to")


@contextmanager
def _whole_file(output: str) -> Iterator[IO[bytes]]:
    """A file that has its name only once it is whole, and on disk."""
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output).resolve()  # what a link points to is replaced, not the link
    if is_stream(output):
        with path.open("wb") as stream:
            yield stream
        return
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o666 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
