"""The results of a re-scoring as they arrive, and the files made of them at the end.

The journal is JSONL beside the output: one line a query, appended in the order of arrival, readable
at any time. The finished files come from it in the order of the input, and take their names whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

from contract import jobs
from contract.errors import InvalidInput
from contract.models import short_name
from producer.files.outputs import NEW_FILE_MODE, OutputFile, atomic_file, sibling_path
from producer.files.streams import is_stream
from producer.rescore.journal_index import JournalIndex
from producer.rescore.options import RetryKind
from producer.rescore.progress import Progress
from producer.rescore.staging import Staging


class Journal:
    """Appends results, and reads them back. Use it in a `with` block.

    Raises `InvalidInput` at the start if the output cannot be written.
    """

    #: Whether what is in it, and in flight, is taken up when the command is started again.
    resumable = False
    #: Whether it has been taken up.
    resumed = False

    def __init__(self, output: str, staging: Staging, mode: int = NEW_FILE_MODE) -> None:
        self._staging = staging
        self._index = JournalIndex(staging)
        self.path = None if is_stream(output) else journal_path(output)
        #: Of its files, which are as private as the outputs.
        self._mode = mode
        #: The model that the first result was asked of: a worker's default may change.
        self.model_requested: str | None = None
        #: By the model that scored: the tokens of a pair that it reads, which a worker's settings
        #: may change.
        self.max_lengths: dict[str, int] = {}
        try:
            self._file = self._open()
        except OSError as error:
            raise InvalidInput(f"{self.path or tempfile.gettempdir()}: {error.strerror}") from error

    def _open(self) -> IO[bytes]:
        return tempfile.TemporaryFile() if self.path is None else self.path.open("w+b")

    @property
    def pending(self) -> int:
        """Number of queries that are still to be scored."""
        return self._index.pending()

    def rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """Once for each time that something is to be scored."""
        yield

    def begin(self) -> None:
        """Called before the first job is sent."""

    def requests(self, top_k: int | None) -> Iterator[jobs.Request]:
        """Yield the requests of this round, done or not: always the same, in the same order."""
        return self._staging.requests(top_k, self._index.query_ids())

    def job_id(self, query_ids: Sequence[str]) -> str:
        """The id of the job of these queries."""
        return jobs.new_job_id()

    def are_done(self, query_ids: Sequence[str]) -> bool:
        """Whether nothing is to be done for these queries."""
        return self._index.are_done(query_ids)

    def progress(self) -> Progress:
        """What it holds."""
        return self._index.progress()

    def add_result(self, result: jobs.JobResult) -> None:
        """Append a line for each query of a job."""
        source = result.provenance.model_dump(include=_OF_A_QUERY)
        self._append(
            {
                "query_id": ranking.query_id,
                "documents": [each.model_dump(exclude_none=True) for each in ranking.documents],
                "truncated": ranking.truncated,
                "provenance": source,
            }
            for ranking in result.rankings
        )

    def add_failure(self, query_ids: list[str], failure: jobs.Failure) -> None:
        """Append a line for each query that has no ranking."""
        error = failure.model_dump(include={"code", "message", "retryable"})
        self._append({"query_id": query_id, "error": error} for query_id in query_ids)

    def _append(self, lines: Iterator[dict[str, Any]]) -> None:
        """Append all lines of a job at once; they are on disk when this returns."""
        starts = []
        start = self._file.seek(0, os.SEEK_END)
        written = bytearray()
        for line in lines:
            starts.append((start + len(written), line))
            written += json.dumps(line, ensure_ascii=False).encode() + b"\n"
        self._write(bytes(written), start)
        for at, line in starts:
            self._note(at, line)

    def _write(self, written: bytes, start: int) -> None:
        """Write all of it, or nothing. Raises `OSError` that names the file if the disk is full."""
        descriptor = self._file.fileno()
        done = 0
        try:
            # Past Python's buffer, which would try again what a full disk has refused.
            while done < len(written):
                done += os.pwrite(descriptor, written[done:], start + done)
            if self.resumable:
                os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, start)
            place = self.path or tempfile.gettempdir()
            raise OSError(error.errno, error.strerror, str(place)) from error

    def _note(self, start: int, line: dict[str, Any]) -> None:
        self._index.add(start, line)
        if source := line.get("provenance"):
            self.model_requested = self.model_requested or source["model_requested"]
            self.max_lengths.setdefault(source["model"], source["max_length"])

    def lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """The line that counts of each query, raw and parsed, in the order of the input."""
        for start in self._index.starts():
            self._file.seek(start)
            raw = self._file.readline()
            yield raw, json.loads(raw)

    def write_run(self, output: str | OutputFile) -> None:
        """Write the TREC run: ranks from 1, scores as the model gave them, the model as tag."""
        with atomic_file(output) as file:
            for _, line in self.lines():
                file.writelines(_trec_lines(line))

    def write_results(self, output: str | OutputFile) -> None:
        """Write the lines themselves."""
        with atomic_file(output) as file:
            for raw, _ in self.lines():
                file.write(raw)

    def keep(self, notify: Callable[[str], object]) -> None:
        """Say where the lines so far are; an empty file is removed."""
        if self.path is None:
            return
        if self.path.stat().st_size:
            notify(f"what was scored so far is in {self.path}")
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


def journal_path(output: str) -> Path:
    """Return the journal of an output."""
    return sibling_path(output, ".partial.jsonl")


#: What of a job's provenance holds for each of its queries, whatever became of its workers.
_OF_A_QUERY = {
    "model_requested",
    "model",
    "downgraded",
    "reason",
    "backend",
    "device",
    "dtype",
    "max_length",
}


def run_tag(provenance: dict[str, Any]) -> str:
    """The tag of a run's lines: names the model that scored them."""
    name = short_name(str(provenance["model"]))
    return "rerankq-" + "_".join(name.split())


def _trec_lines(line: dict[str, Any]) -> Iterator[bytes]:
    for document in line.get("documents", ()):
        yield (
            f"{line['query_id']} Q0 {document['id']} {document['rank']} {document['score']!r}"
            f" {run_tag(line['provenance'])}\n"
        ).encode()
