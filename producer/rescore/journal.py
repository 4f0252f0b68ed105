"""Store the results of a re-scoring as they arrive, and write the finished files from them.

The journal is a JSONL file next to the output. It has one line for each query, in the order of
arrival, and can be read at any time. The finished files are written from it in the order of the
input, and replace existing files in one step.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

from pydantic_core import from_json

from contract import jobs
from contract.columns import ResultColumns
from contract.errors import InvalidInput
from contract.models import ModelName
from producer.files.outputs import NEW_FILE_MODE, sibling_path
from producer.files.streams import is_stream
from producer.rescore import journal_lines
from producer.rescore.finished_run import FinishedRun
from producer.rescore.journal_index import JournalIndex
from producer.rescore.journal_lines import Line
from producer.rescore.manifest import RECOVERY_HINT
from producer.rescore.options import RetryKind
from producer.rescore.progress import Progress
from producer.rescore.selection import Selection
from producer.rescore.shards import Shard
from producer.rescore.staged_query import StagedQuery
from producer.rescore.staging import Staging


class Journal(FinishedRun):
    """Appends results, and reads them back. Use it in a `with` block.

    Raises `InvalidInput` when constructed if the output cannot be written.
    """

    #: Whether the same command, started again, continues with the journal and the jobs in flight.
    resumable = False
    #: Whether this start continues an earlier one.
    resumed = False

    def __init__(
        self,
        output: str,
        staging: Staging,
        mode: int = NEW_FILE_MODE,
        selection: Selection | None = None,
    ) -> None:
        self.output = output
        self._staging = staging
        self._run_id = secrets.token_hex(6)
        self._selection = selection or Selection()
        self._index = JournalIndex(staging)
        self.path = None if is_stream(output) else journal_path(output)
        #: The mode of the journal's files, which are as private as the outputs.
        self._mode = mode
        #: The requested model of the first result; a worker's default may change between starts.
        self.model_requested: str | None = None
        #: The maximum length of each model in tokens, which depends on the worker's settings. The
        #: names are without revisions, here and in the next two.
        self.max_lengths: dict[str, int] = {}
        #: The revision of each model, if it is known.
        self.revisions: dict[str, str] = {}
        #: The prompt that was set for each model; None for those that read their own, or none.
        self.prompts: dict[str, str | None] = {}
        try:
            self._file = self._open()
        except OSError as error:
            raise InvalidInput(f"{self._place}: {error.strerror}") from error

    def _open(self) -> IO[bytes]:
        return tempfile.TemporaryFile() if self.path is None else self.path.open("w+b")

    def staged_query(self, query_id: str) -> StagedQuery:
        """Return a query with all its candidates."""
        return self._staging.staged_query(query_id)

    @property
    def shard(self) -> Shard | None:
        """Return the shard that is scored, unless it is the whole run."""
        return self._staging.shard

    def record_shard(
        self,
        shard: Shard,
        format_name: str,
        output: str,
        results: str | None,
        first: Journal | None = None,
    ) -> None:
        """Record that the files of a shard are complete, so that they can be merged.

        `first` is the journal of the small model of a cascade.
        """

    @property
    def exists(self) -> bool:
        """Return whether there is a run to resume."""
        return False

    @property
    def queries(self) -> int:
        """Return the number of queries of the run."""
        return self._staging.counts().queries

    @property
    def run_id(self) -> str:
        """Return the id under which the run is listed."""
        return self._run_id

    @property
    def pending(self) -> int:
        """Return the number of queries of this round that are not scored yet."""
        return self._index.pending()

    def rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """Yield once for each round with queries to score."""
        yield

    def begin(self) -> None:
        """Prepare for the first job to be sent."""

    def staged_queries(self) -> Iterator[StagedQuery]:
        """Yield all queries of this round, done or not, always in the same order."""
        selected = map(self._selection.select, self._index.staged_queries())
        return filter(None, selected)

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
        return self._index.progress(self._selection.most)

    def add_result(self, result: jobs.JobResult | ResultColumns) -> None:
        """Append a line for each query of a job."""
        self.append(list(journal_lines.of_result(result)))

    def add_part(self, result: ResultColumns) -> None:
        """Do nothing: the result of a query is recorded when all of its parts have ended."""

    def add_failure(self, query_ids: list[str], failure: jobs.Failure) -> None:
        """Append a line for each query that has no ranking."""
        self.append(list(journal_lines.of_failure(query_ids, failure)))

    def append(self, lines: Sequence[Line]) -> None:
        """Append all lines of a job at once, and return when they are on disk."""
        lines = [self._with_basis(each) for each in lines]
        start = self._file.seek(0, os.SEEK_END)
        self._write(b"".join(each.text for each in lines), start)
        for each in lines:
            self._note(start, each.head)
            start += len(each.text)

    def _with_basis(self, line: Line) -> Line:
        basis = self._selection.basis(line.head["query_id"])
        return line if basis is None else journal_lines.with_basis(line, basis)

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
            raise OSError(error.errno, error.strerror, self._place) from error

    def _note(self, start: int, line: dict[str, Any]) -> None:
        self._index.add(start, line)
        if source := line.get("provenance"):
            self.model_requested = self.model_requested or source["model_requested"]
            name = ModelName.parse(source["model"]).base
            self.max_lengths.setdefault(name, source["max_length"])
            # The results of old workers have no prompt and no revision.
            self.prompts.setdefault(name, source.get("prompt"))
            if revision := source.get("revision"):
                self.revisions.setdefault(name, revision)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the valid line of each query, parsed, in the order of the input.

        Raises `InvalidInput` if the journal is damaged.
        """
        return map(self._parsed_line, self._index.starts())

    def line(self, query_id: str) -> dict[str, Any] | None:
        """Return the valid line of a query, parsed; None if it has none. Raises `InvalidInput`."""
        start = self.start_of(query_id)
        return None if start is None else self._parsed_line(start)

    def start_of(self, query_id: str) -> int | None:
        """Return the offset of a query's valid line."""
        return self._index.start_of(query_id)

    def failures(self) -> Iterator[Line]:
        """Yield the lines of the queries that have failed."""
        for query_id, start in self._index.failed():
            yield Line({"query_id": query_id} | self._parsed_line(start), self._raw_line(start))

    def downgraded_with(self, other: Journal) -> int:
        """Return the number of queries that a smaller model has scored, here or in the other."""
        return self._index.downgraded_with(other._index)

    def discard_stale(self, first: Journal) -> None:
        """Discard all lines that do not depend on the valid line of another journal."""
        self._index.discard_stale(first._index)

    def _parsed_line(self, start: int) -> dict[str, Any]:
        try:
            return dict(from_json(self._raw_line(start)))
        except ValueError as error:
            raise self._damaged(start) from error

    def _raw_line(self, start: int) -> bytes:
        self._file.seek(start)
        raw = self._file.readline()
        if not raw.endswith(b"\n"):
            raise self._damaged(start)
        return raw

    def ranked_queries(self, top_k: int | None) -> Iterator[tuple[int, int]]:
        """Yield the place of each query in the input, and the number of its ranked documents."""
        for place, pairs in self._index.ranked():
            yield place, pairs if top_k is None else min(pairs, top_k)

    def _damaged(self, start: int) -> InvalidInput:
        return InvalidInput(f"{self._place}: damaged at byte {start:,}; {RECOVERY_HINT}")

    @property
    def _place(self) -> str:
        return str(self.path or tempfile.gettempdir())

    def keep(self, notify: Callable[[str], object], error: BaseException | None = None) -> None:
        """Keep the file and report its path; remove it if it is empty. `error` ended the run."""
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
