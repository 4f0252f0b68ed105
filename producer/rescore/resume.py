"""Resume a re-scoring that was killed at any point: the same command completes it.

Results are on disk in the journal before they are removed from Redis. Job ids are the same at each
start, so submitting the jobs in flight again finds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from contract.errors import InvalidInput
from producer.files.outputs import NEW_FILE_MODE, open_locked, sibling_path
from producer.rescore import journal_lines
from producer.rescore.journal import Journal, journal_path
from producer.rescore.journal_lines import Line
from producer.rescore.manifest import RECOVERY_HINT, Manifest, Round
from producer.rescore.options import RetryKind
from producer.rescore.selection import Selection
from producer.rescore.shard_record import FileDigest, ShardRecord, record_path
from producer.rescore.shards import Shard
from producer.rescore.staging import Staging

#: What both the journal and the manifest hold of each model that has scored a job.
OF_EACH_MODEL = ("max_lengths", "revisions", "prompts")


class ResumableJournal(Journal):
    """A journal with a manifest, new or resumed.

    Raises `InvalidInput` when constructed if another process has opened it, if its run differs from
    `wanted`, or if it is damaged. `restart` discards an existing journal.
    """

    resumable = True

    def __init__(
        self,
        output: str,
        staging: Staging,
        wanted: Manifest,
        *,
        restart: bool = False,
        mode: int = NEW_FILE_MODE,
        selection: Selection | None = None,
    ) -> None:
        self.path: Path = journal_path(output)
        self._manifest_path = manifest_path(output)
        self._record_path = record_path(output)
        self._restart = restart
        self._same_command = f"the same command{' without --restart' if restart else ''}"
        super().__init__(output, staging, mode, selection)
        try:
            self.manifest = wanted if restart else self._resume(wanted)
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> IO[bytes]:
        return open_locked(self.path, self._mode)

    @property
    def run_id(self) -> str:
        """Return the id of the run, the same at each start."""
        return self.manifest.run_id

    @property
    def exists(self) -> bool:
        """Return whether there is a run to resume."""
        return self._manifest_path.exists()

    def begin(self) -> None:
        """Write the manifest, so that the run can be resumed from now on."""
        self._record_path.unlink(missing_ok=True)  # the output is no longer a complete shard
        if self._restart:
            self._discard()
            self._restart = False
        self.manifest.save(self._manifest_path, self._mode)

    def rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """Yield once for the rest of the current round, then once for the retried queries.

        Raises `InvalidInput` if there is no run to retry.
        """
        if retry and not self.exists:
            raise InvalidInput(
                f"{self._manifest_path}: there is no earlier run with queries to score again; omit"
                " --retry-failed and --rescore-downgraded"
            )
        was_pending = bool(self.pending)
        if was_pending:
            yield
        if not retry or (was_pending and set(retry) <= set(self.manifest.round.retry)):
            return
        ends_at = self._file.seek(0, os.SEEK_END)
        begun = Round(begins_at=ends_at, retry=tuple(sorted(retry)))
        self.manifest = self.manifest.model_copy(update={"round": begun})
        self._index.begin_round(begun.retry)
        if self.pending:
            yield

    @property
    def first_job_size(self) -> int:
        """The number of pairs of the first jobs of each round."""
        return self.manifest.pairs_per_job

    @property
    def job_sizes(self) -> Sequence[tuple[int, int]]:
        """The changes of the number of pairs in this round."""
        return self.manifest.round.job_sizes

    @property
    def most_in_flight(self) -> int:
        """At least the number of jobs that earlier starts of this round left in flight."""
        return self.manifest.round.most_in_flight

    def record_job_size(self, place: int, pairs: int) -> None:
        """Save a change of the size before the first such job is sent."""
        self._update_round(job_sizes=(*self.manifest.round.job_sizes, (place, pairs)))

    def record_most_in_flight(self, number: int) -> None:
        """Save the number before as many jobs are in flight."""
        self._update_round(most_in_flight=number)

    def _update_round(self, **changes: Any) -> None:
        updated = self.manifest.round.model_copy(update=changes)
        self.manifest = self.manifest.model_copy(update={"round": updated})
        self.manifest.save(self._manifest_path)

    def append(self, lines: Sequence[Line]) -> None:
        """Append the lines of a job; save what is found out about a new model."""
        super().append(lines)
        found = {name: dict(getattr(self, name)) for name in OF_EACH_MODEL}
        if any(getattr(self.manifest, name) != values for name, values in found.items()):
            self.manifest = self.manifest.model_copy(update=found)
            self.manifest.save(self._manifest_path)

    def job_id(self, query_ids: Sequence[str]) -> str:
        """Return the id of the job of these queries, the same at each start of a round."""
        return self.manifest.job_id(query_ids)

    def keep(self, notify: Callable[[str], object], error: BaseException | None = None) -> None:
        """Keep the files for the next start and report where; remove them if nothing was sent.

        `error` has ended the run.
        """
        if not self.exists:
            self.remove()
        elif isinstance(error, InvalidInput):  # the same command would be refused again
            notify(f"partial results are in {self.path}")
        else:
            notify(f"partial results are in {self.path}; run {self._same_command} to continue")

    def record_shard(
        self,
        shard: Shard,
        format_name: str,
        output: str,
        results: str | None,
        first: Journal | None = None,
    ) -> None:
        """Record that the files of a shard are complete, so that they can be merged."""
        progress, first = self.progress(), first or self
        record = ShardRecord(
            number=shard.number,
            count=shard.count,
            inputs=self._staging.whole_inputs(),
            settings=self.manifest.settings.model_dump(exclude={"shard"}),
            format=format_name,
            output=FileDigest.of(output, output),
            results=FileDigest.of(results, output) if results else None,
            model_requested=self.model_requested,
            **{name: getattr(first, name) | getattr(self, name) for name in OF_EACH_MODEL},
            queries=progress.queries + progress.failed_queries,
            downgraded_queries=self.downgraded_with(first),
            failed=progress.codes,
            first_failure=progress.first_failure,
        )
        record.save(output, self.ranked_queries(self.manifest.settings.top_k), self._mode)

    def remove(self) -> None:
        """Remove the journal and its manifest after the finished files have been written.

        If the process is killed in between, the next start produces the same files.
        """
        if self.manifest.round.retry and self.exists:
            self.manifest.model_copy(update={"round": Round()}).save(
                self._manifest_path, self._mode
            )
        self._file.truncate(0)
        self._manifest_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _discard(self) -> None:
        # In this order, because a journal without a manifest is never resumed by another run.
        self._manifest_path.unlink(missing_ok=True)
        self._file.truncate(0)

    def _resume(self, wanted: Manifest) -> Manifest:
        found = Manifest.load(self._manifest_path)
        if found is None:
            if self._file.seek(0, os.SEEK_END):
                raise InvalidInput(
                    f"{self.path}: results of an earlier run whose {self._manifest_path.name} is"
                    f" missing; {RECOVERY_HINT}"
                )
            return wanted
        found.check_same(wanted, self._manifest_path)
        for name in OF_EACH_MODEL:
            getattr(self, name).update(getattr(found, name))
        self._read(found.round)
        self.resumed = True
        return found

    def _read(self, begun: Round) -> None:
        """Index all lines; remove the last one if it is incomplete."""
        start = self._file.seek(0)
        in_round = False
        while True:
            if start == begun.begins_at:
                in_round = True
                self._index.begin_round(begun.retry)
            raw = self._file.readline()
            if not raw.endswith(b"\n"):
                break
            self._note(start, self._parsed(raw, start))
            start += len(raw)
        if not in_round:
            raise InvalidInput(
                f"{self.path}: shorter than recorded in {self._manifest_path.name}; {RECOVERY_HINT}"
            )
        self._file.truncate(start)

    def _parsed(self, raw: bytes, start: int) -> dict[str, Any]:
        try:
            line = from_json(raw)
            if isinstance(line["query_id"], str) and (
                journal_lines.has_ranking(line) or "error" in line
            ):
                return dict(line)
        except (ValueError, TypeError, KeyError):
            pass
        raise self._damaged(start)


def manifest_path(output: str) -> Path:
    """Return the path of an output's manifest."""
    return sibling_path(output, ".manifest.json")
