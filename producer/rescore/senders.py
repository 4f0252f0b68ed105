"""Send jobs from several processes: see `producer.rescore.sender`.

This process makes the jobs and writes the journal, so a run is the same with any number of
processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

from contract import jobs
from contract.columns import JobColumns, ResultColumns
from contract.errors import RerankError
from producer.rescore import sender
from producer.rescore.job_sizes import JobSizes
from producer.rescore.outcomes import AppendableJournal, OutcomeRecorder
from producer.rescore.progress import Progress
from producer.rescore.sender import Ended, Lines, NextJob, Report, Scored, Task, Work
from producer.rescore.window import Window

#: How long an interrupted sender may take to cancel its jobs before it is killed.
END_S = 30.0


@dataclass
class _Sender:
    process: SpawnProcess
    number: int
    progress: Progress = field(default_factory=Progress)
    #: Whether it has sent its last message, or was told to end.
    has_ended: bool = False


class Senders:
    """Processes that send jobs. Use it in a `with` block, which ends them."""

    def __init__(
        self,
        task: Task,
        journal: AppendableJournal,
        window: Window,
        sizes: JobSizes,
        report_progress: Callable[[Progress], object],
        notify: Callable[[str], object],
    ) -> None:
        self._task = task
        self._journal = journal
        self._recorder = OutcomeRecorder(journal)
        self._earlier = self._recorder.progress
        self._window = window
        self._sizes = sizes
        self._report_progress = report_progress
        self._notify = notify
        self._senders: dict[Connection, _Sender] = {}

    @property
    def progress(self) -> Progress:
        """Return what all processes have scored, and what was scored earlier."""
        total = Progress()
        for each in (self._earlier, *(one.progress for one in self._senders.values())):
            total.add(each)
        return total

    def send_all(self, made: Iterator[jobs.Job | JobColumns]) -> None:
        """Send all jobs, and return when they have ended. Raises the error of a process."""
        while running := [each for each, one in self._senders.items() if not one.has_ended]:
            for connection in wait(running):
                if isinstance(connection, Connection):
                    self._receive(connection, made)

    def _receive(self, connection: Connection, made: Iterator[jobs.Job | JobColumns]) -> None:
        one = self._senders[connection]
        try:
            message: sender.Message = connection.recv()
        except (EOFError, OSError) as error:
            one.process.join(END_S)
            raise RerankError(
                f"a process of --processes has ended with exit code {one.process.exitcode}; run the"
                " same command again"
            ) from error
        answer: Any = None
        match message:
            case NextJob():
                one.progress = message.progress
                job = next(made, None)
                answer = None if job is None else Work(job, self._share(one.number))
            case Lines():
                self._append(message)
            case Scored():
                self._record(message)
            case Report(notice=str(notice)):
                self._notify(notice)
            case Report(progress=Progress() as progress):
                one.progress = progress
                self._report_progress(self.progress)
            case Ended():
                one.progress, one.has_ended = message.progress, True
                if message.error is not None:
                    raise message.error
                return
        connection.send(answer)

    def _share(self, number: int) -> int:
        """Return how many jobs the sender with this number may have in flight."""
        share, more = divmod(self._window.jobs, self._task.senders)
        return max(1, share + (number < more))

    def _append(self, message: Lines) -> None:
        if message.source is not None:
            self._check(message.job_id, message.source)
        self._journal.append(message.lines)
        self._observe(message)

    def _record(self, message: Scored) -> None:
        result = message.result
        if message.is_part and isinstance(result, ResultColumns):
            self._journal.add_part(result)
        else:
            self._check(result.job_id, result.provenance)
            self._journal.add_result(result)
        self._observe(message)

    def _check(self, job_id: str, source: jobs.Provenance) -> None:
        """Raise `RerankError` if results before this one have another origin."""
        mismatch = self._recorder.find_mismatch(job_id, self._task.options.model, source)
        if mismatch is not None:
            # The jobs in flight would also have to be scored again.
            self._end(sender.CANCEL)
            raise RerankError(mismatch)

    def _observe(self, message: Lines | Scored) -> None:
        for each in message.observed:
            self._sizes.observe(each)

    def _end(self, signal_number: int) -> None:
        """Tell all processes to end that have not been told before."""
        for one in self._senders.values():
            pid = one.process.pid
            if not one.has_ended and pid is not None and one.process.is_alive():
                os.kill(pid, signal_number)
            one.has_ended = True

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        # It starts with the first process otherwise, and would undo the mask of signals.
        resource_tracker.ensure_running()
        for number in range(self._task.senders):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=sender.run, args=(theirs, self._task), name="rescore-sender", daemon=True
            )
            # Ctrl-C reaches all processes of a terminal; this one ends the others.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
            self._senders[ours] = _Sender(process, number)
        return self

    def __exit__(self, *_: object) -> None:
        self._end(signal.SIGTERM)
        for connection, one in self._senders.items():
            one.process.join(END_S)
            if one.process.exitcode is None:
                one.process.kill()
                one.process.join()
            connection.close()
