"""The output files of a re-scoring: the reranked run, and the results as JSONL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from contract.errors import InvalidInput
from producer.files import conflicts
from producer.files.compressed_outputs import check_not_parquet
from producer.files.output_locks import OutputLock, lock_path
from producer.files.outputs import OutputFile, check_writable
from producer.files.streams import is_stream
from producer.formats.table_files import require_pyarrow
from producer.rescore import run_writers
from producer.rescore.cascade import first_output
from producer.rescore.finished_run import FinishedRun
from producer.rescore.journal import journal_path
from producer.rescore.progress import Progress
from producer.rescore.resume import manifest_path
from producer.rescore.shard_record import record_path


@dataclass(frozen=True)
class OutputFiles:
    """File names from the options of the same names; `-` is standard output."""

    #: Missing if nothing will be scored.
    output: str | None = None
    results: str | None = None
    #: The file of cached scores.
    cache: str | None = None
    #: The format of the output, if the user has chosen one.
    format: str | None = None
    #: Whether the output is that of a shard, which has a record.
    has_record: bool = False
    #: Whether the output is that of a cascade, which has two journals.
    is_cascade: bool = False

    def check(self, reads: Sequence[conflicts.FileUse]) -> None:
        """Raise `InvalidInput` if a file cannot be written, or would overwrite another.

        `reads` are the files that the same command reads.
        """
        for each in filter(None, (self.output, self.results)):
            check_writable(each)
        if self.has_record and self.output and is_stream(self.output):
            raise InvalidInput(
                f"--output {self.output} is not a regular file; --shard requires one, because"
                " `rerankq merge` reads it with the record next to it"
            )
        conflicts.check(reads, list(self._uses()))
        # Now, because the files are written when everything is scored.
        if self.output:
            is_parquet = run_writers.format_of(self.output, self.format) == "parquet"
            check_not_parquet(self.output, is_parquet)
            if is_parquet:
                require_pyarrow(self.output)
        if self.results:
            check_not_parquet(self.results, is_parquet=False)
            if run_writers.is_parquet_name(self.results):
                require_pyarrow(self.results)

    def _uses(self) -> Iterator[conflicts.FileUse]:
        yield from conflicts.output_uses("--output", self.output)
        yield from conflicts.output_uses("--results", self.results)
        if self.cache:
            for ending in ("", "-wal", "-shm"):
                yield conflicts.FileUse("--cache", f"{self.cache}{ending}")
        for option, name in (("--output", self.output), ("--results", self.results)):
            if name and not is_stream(name):
                yield conflicts.FileUse(f"the lock of {option}", str(lock_path(name)))
        if self.output and not is_stream(self.output):
            bases = [self.output, *([first_output(self.output)] if self.is_cascade else [])]
            for base in bases:
                yield conflicts.FileUse("the journal of --output", str(journal_path(base)))
                manifest = str(manifest_path(base))
                yield from conflicts.output_uses("the manifest of --output", manifest)
            if self.has_record:
                record = str(record_path(self.output))
                yield from conflicts.output_uses("the record of --output", record)

    @contextmanager
    def reserved(self, notify: Callable[[str], object]) -> Iterator[Callable[[], None]]:
        """Reserve the files for this process, or raise `InvalidInput`.

        Yield a function that raises `RerankError` if a file is no longer reserved. `notify`
        receives a message if the process that had reserved one has ended.
        """
        with ExitStack() as stack:
            names = [name for name in (self.output, self.results) if name and not is_stream(name)]
            locks = [stack.enter_context(OutputLock(name, notify)) for name in names]

            def check() -> None:
                for lock in locks:
                    lock.check()

            yield check

    @contextmanager
    def locked(self) -> Iterator[list[OutputFile]]:
        """Open the files, and lock them against other processes. Raises `InvalidInput`."""
        with ExitStack() as stack:
            names = filter(None, (self.output, self.results))
            yield [stack.enter_context(OutputFile(name)) for name in names]


def write(
    journal: FinishedRun,
    progress: Progress,
    chosen: str | None,
    output: OutputFile,
    results: OutputFile | None = None,
) -> None:
    """Write the files from the journal; the run only if a query was scored, the results always.

    A shard always has a run, which may be empty, and a record.
    """
    format_name = run_writers.format_of(output.name, chosen)
    if progress.queries or journal.shard:
        journal.write_run(output, format_name)
    if results:
        journal.write_results(results)
    if journal.shard and journal.resumable:
        kept = results.name if results and not is_stream(results.name) else None
        journal.record_shard(journal.shard, format_name, output.name, kept)
