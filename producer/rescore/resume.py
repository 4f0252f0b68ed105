"""A re-scoring that may be killed at any byte: the same command goes on with what it finds.

Results are on disk in the journal before Redis forgets them; the ids of the jobs are always the
same, so that what is in flight is taken up by submitting it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from contract import jobs
from contract.errors import InvalidInput
from producer.files.outputs import NEW_FILE_MODE, open_locked, sibling_path
from producer.rescore.journal import Journal, journal_path
from producer.rescore.manifest import WAYS_OUT, Manifest, Round
from producer.rescore.options import RetryKind
from producer.rescore.staging import Staging


class ResumableJournal(Journal):
    """The journal of a file, and its manifest: begun here, or taken up.

    Raises `InvalidInput` at the start if another process has it, if what is there was begun with
    something else than `wanted`, or if it was damaged. `restart` forgets what is there.
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
    ) -> None:
        self.path: Path = journal_path(output)
        self._manifest_path = manifest_path(output)
        self._restart = restart
        self._same_command = f"the same command{' without --restart' if restart else ''} continues"
        super().__init__(output, staging, mode)
        try:
            self.manifest = wanted if restart else self._take_up(wanted)
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> IO[bytes]:
        return open_locked(self.path, self._mode)

    @property
    def was_begun(self) -> bool:
        """Whether there is anything to take up."""
        return self._manifest_path.exists()

    def begin(self) -> None:
        """Put the manifest beside the journal: from now on there is something to take up."""
        if self._restart:
            self._forget()
            self._restart = False
        self.manifest.save(self._manifest_path, self._mode)

    def rounds(self, retry: Collection[RetryKind]) -> Iterator[None]:
        """What is to be scored now: what was begun and has not ended, then what is to be redone.

        Raises `InvalidInput` if there is nothing that could be redone.
        """
        if retry and not self.was_begun:
            raise InvalidInput(
                f"{self._manifest_path}: there is no run to take up, of which something could be"
                " redone: leave the option out"
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

    def add_result(self, result: jobs.JobResult) -> None:
        """Append a line for each query of a job; note in the manifest what a new model reads."""
        super().add_result(result)
        if self.max_lengths != self.manifest.max_lengths:
            self.manifest = self.manifest.model_copy(update={"max_lengths": dict(self.max_lengths)})
            self.manifest.save(self._manifest_path)

    def job_id(self, query_ids: Sequence[str]) -> str:
        """The id of the job of these queries: the same whenever the round is taken up."""
        return self.manifest.job_id(query_ids)

    def keep(self, notify: Callable[[str], object]) -> None:
        """Say where the lines so far are; if nothing was sent, no file is left."""
        if self.was_begun:
            notify(f"what was scored so far is in {self.path}: {self._same_command}")
        else:
            self.remove()

    def remove(self) -> None:
        """Remove the journal and its manifest: what they held stands in the finished files.

        Wherever this is interrupted, what is left can be taken up, to the same end.
        """
        if self.manifest.round.retry and self.was_begun:
            self.manifest.model_copy(update={"round": Round()}).save(
                self._manifest_path, self._mode
            )
        self._file.truncate(0)
        self._manifest_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _forget(self) -> None:
        # In this order: a journal without a manifest is never taken for another run's.
        self._manifest_path.unlink(missing_ok=True)
        self._file.truncate(0)

    def _take_up(self, wanted: Manifest) -> Manifest:
        found = Manifest.load(self._manifest_path)
        if found is None:
            if self._file.seek(0, os.SEEK_END):
                raise InvalidInput(
                    f"{self.path}: results of an earlier run, without {self._manifest_path.name},"
                    f" which says what they are of: {WAYS_OUT}"
                )
            return wanted
        found.check_same(wanted, self._manifest_path)
        self.max_lengths.update(found.max_lengths)
        self._read(found.round)
        self.resumed = True
        return found

    def _read(self, begun: Round) -> None:
        """Note all lines; the last one is cut off if it was not written to its end."""
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
                f"{self.path}: shorter than {self._manifest_path.name} says: {WAYS_OUT}"
            )
        self._file.truncate(start)

    def _parsed(self, raw: bytes, start: int) -> dict[str, Any]:
        try:
            line = json.loads(raw)
            if isinstance(line["query_id"], str) and ("documents" in line or "error" in line):
                return dict(line)
        except (ValueError, TypeError, KeyError):
            pass
        raise InvalidInput(f"{self.path}: damaged at byte {start:,}: {WAYS_OUT}")


def manifest_path(output: str) -> Path:
    """Return the manifest of an output."""
    return sibling_path(output, ".manifest.json")
