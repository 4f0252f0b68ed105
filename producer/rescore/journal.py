"""Store the results of a re-scoring as they arrive, and write the finished files from them.

The journal is a JSONL file next to the output. It has one line for each query, in the order of
arrival, and can be read at any time. The finished files are written from it in the order of the
input, and replace existing files in one step.
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
from contract.models import ModelName, short_name
from producer.files.outputs import NEW_FILE_MODE, OutputFile, atomic_file, sibling_path
from producer.files.streams import is_stream
from producer.rescore.journal_index import JournalIndex
from producer.rescore.options import RetryKind
from producer.rescore.progress import Progress
from producer.rescore.staging import Staging


class Journal:
    """Appends results, and reads them back. Use it in a `with` block.

    Raises `InvalidInput` when constructed if the output cannot be written.
    """

    #: Whether the same command, started again, continues with the journal and the jobs in flight.
    resumable = False
    #: Whether this start continues an earlier one.
    resumed = False

    def __init__(self, output: str, staging: Staging, mode: int = NEW_FILE_MODE) -> None:
        self._staging = staging
        self._index = JournalIndex(staging)
        self.path = None if is_stream(output) else journal_path(output)
        #: The mode of the journal's files, which are as private as the outputs.
        self._mode = mode
        #: The requested model of the first result; a worker's default may change between starts.
        self.model_requested: str | None = None
        #: The maximum length of each model in tokens, which depends on the worker's settings. The
        #: names are without revisions, here and in `revisions`.
        self.max_lengths: dict[str, int] = {}
        #: The revision of each model, if it is known.
        self.revisions: dict[str, str] = {}
        try:
            self._file = self._open()
        except OSError as error:
            raise InvalidInput(f"{self.path or tempfile.gettempdir()}: {error.strerror}") from error

    def _open(self) -> IO[bytes]:
        return tempfile.TemporaryFile() if self.path is None else self.path.open("w+b")

    @property
    def pending(self) -> int:
        """Return the number of queries of this round that are not scored yet."""
        return self._index.pending()

    def rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """Yield once for each round with queries to score."""
        yield

    def begin(self) -> None:
        """Prepare for the first job to be sent."""

    def requests(self, top_k: int | None) -> Iterator[jobs.Request]:
        """Yield all requests of this round, done or not, always in the same order."""
        return (each.request(top_k) for each in self._index.staged_queries())

    @property
    def first_job_size(self) -> int | None:
        """The number of pairs of the first jobs, if an earlier start has chosen it."""
        return None

    @property
    def job_sizes(self) -> Sequence[tuple[int, int]]:
        """The changes of the number of pairs in this round: see `producer.rescore.job_sizes`."""
        return ()

    @property
    def most_in_flight(self) -> int:
        """At least the number of jobs that earlier starts of this round left in flight."""
        return 0

    def record_job_size(self, place: int, pairs: int) -> None:
        """Record that the jobs from the query at `place` in this round on have another size."""

    def record_most_in_flight(self, number: int) -> None:
        """Record a new maximum number of jobs in flight."""

    def job_id(self, query_ids: Sequence[str]) -> str:
        """Return the id of the job of these queries."""
        return jobs.new_job_id()

    def are_done(self, query_ids: Sequence[str]) -> bool:
        """Return whether these queries are all done in this round."""
        return self._index.are_done(query_ids)

    def progress(self) -> Progress:
        """Return the progress recorded in the journal."""
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
        """Append all lines of a job at once, and return when they are on disk."""
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
        """Write all bytes or none. Raises `OSError`, which names the file, if the disk is full."""
        descriptor = self._file.fileno()
        done = 0
        try:
            # Unbuffered, because a buffer would retry writes that failed on a full disk.
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
            name = ModelName.parse(source["model"]).unpinned
            self.max_lengths.setdefault(name, source["max_length"])
            # The results of old workers have no revision.
            if revision := source.get("revision"):
                self.revisions.setdefault(name, revision)

    def lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield the valid line of each query, raw and parsed, in the order of the input."""
        for start in self._index.starts():
            self._file.seek(start)
            raw = self._file.readline()
            yield raw, json.loads(raw)

    def write_run(self, output: str | OutputFile) -> None:
        """Write the TREC run, with ranks from 1, the model's raw scores, and the model as tag."""
        with atomic_file(output) as file:
            for _, line in self.lines():
                file.writelines(_trec_lines(line))

    def write_results(self, output: str | OutputFile) -> None:
        """Write the lines of the journal."""
        with atomic_file(output) as file:
            for raw, _ in self.lines():
                file.write(raw)

    def keep(self, notify: Callable[[str], object]) -> None:
        """Keep the file and report its path; remove it if it is empty."""
        if self.path is None:
            return
        if self.path.stat().st_size:
            notify(f"partial results are in {self.path}")
        else:
            self.remove()

    def remove(self) -> None:
        """Remove the file after the finished files have been written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def journal_path(output: str) -> Path:
    """Return the path of an output's journal."""
    return sibling_path(output, ".partial.jsonl")


#: The fields of a job's provenance that also describe each of its queries.
_OF_A_QUERY = {
    "model_requested",
    "model",
    "revision",
    "downgraded",
    "reason",
    "backend",
    "device",
    "dtype",
    "max_length",
}


def run_tag(provenance: dict[str, Any]) -> str:
    """Return the tag of a TREC run's lines, which names the model that scored them."""
    name = short_name(str(provenance["model"]))
    return "rerankq-" + "_".join(name.split())


def _trec_lines(line: dict[str, Any]) -> Iterator[bytes]:
    for document in line.get("documents", ()):
        yield (
            f"{line['query_id']} Q0 {document['id']} {document['rank']} {document['score']!r}"
            f" {run_tag(line['provenance'])}\n"
        ).encode()
