"""Send the jobs that the parent process makes, and return their results: one of `--processes`.

The parent makes the jobs and writes the journal; this process does the rest. The parent answers
each message. If it ends, or sends SIGTERM, this process ends like an interrupted command. On
`CANCEL`, it also cancels the jobs of a run that can be resumed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from contract import jobs
from contract.columns import JobColumns, ResultColumns
from contract.errors import RerankError
from contract.records import Provenance
from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.rescore import journal_lines
from producer.rescore.in_flight import JobsInFlight
from producer.rescore.journal_lines import Line
from producer.rescore.options import Options
from producer.rescore.progress import Progress
from producer.rescore.window import MOST_CHARS, Window

#: The signal that ends a sender and cancels its jobs.
CANCEL = signal.SIGUSR1


@dataclass(frozen=True)
class Task:
    """The work of a sender, from its first message on."""

    settings: Settings
    options: Options
    #: The number of senders, which share the memory for jobs in flight.
    senders: int
    resumable: bool
    #: Whether the parent needs the results, because it adds them to a cache.
    with_results: bool = False


@dataclass(frozen=True)
class NextJob:
    """Asks for a job; the answer is `Work`, or None at the end."""

    progress: Progress


@dataclass(frozen=True)
class Work:
    """A job to send, and the number of jobs that this sender may have in flight."""

    job: jobs.Job | JobColumns
    window: int


@dataclass(frozen=True)
class Lines:
    """Asks to append the lines of a job to the journal; the answer is None."""

    job_id: str
    lines: list[Line]
    #: The provenance of a result, and that of all results since the last message.
    source: Provenance | None
    observed: list[Provenance]


@dataclass(frozen=True)
class Scored:
    """Asks to record a result, or to note that of a part of a query; the answer is None."""

    result: jobs.JobResult | ResultColumns
    observed: list[Provenance]
    is_part: bool = False


@dataclass(frozen=True)
class Report:
    """Reports progress, or the reason for a long wait."""

    progress: Progress | None = None
    notice: str | None = None


@dataclass(frozen=True)
class Ended:
    """The last message: all jobs have ended, or an error."""

    progress: Progress
    error: Exception | None = None


#: A message of a sender.
Message = NextJob | Lines | Scored | Report | Ended


class ParentGone(RerankError):
    """The parent has ended, or the connection to it."""

    code = "parent_gone"


def run(connection: Connection, task: Task) -> None:
    """Send jobs until there are no more, or until the parent or an error ends it."""
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(CANCEL, _interrupt)
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
        _run(_Parent(connection), task)


def _run(parent: _Parent, task: Task) -> None:
    with ColumnsClient(task.settings) as client:
        sender = _Sender(client, parent, task)
        error: Exception | None = None
        try:
            sender.run()
        except Exception as raised:  # noqa: BLE001
            error = raised
        parent.end(Ended(sender.progress, error))


class _Cancelled(KeyboardInterrupt):
    """The parent has sent `CANCEL`."""


def _interrupt(signal_number: int, _: Any) -> None:
    # Another signal must not interrupt the cancellation of jobs.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(CANCEL, signal.SIG_IGN)
    raise _Cancelled if signal_number == CANCEL else KeyboardInterrupt


def _end_with_parent() -> None:
    """Interrupt this process when its parent has ended, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


class _Sender:
    """The jobs in flight of this process."""

    def __init__(self, client: ColumnsClient, parent: _Parent, task: Task) -> None:
        fixed = task.options.window is not None
        self._window = Window(1, most_chars=None if fixed else MOST_CHARS // task.senders)
        self._parent = parent
        self._journal = _ParentsJournal(parent, task.resumable, task.with_results)
        self._in_flight = JobsInFlight(
            client,
            self._journal,
            task.options,
            self._window,
            self._journal.observed.append,
            lambda progress: self._parent.ask(Report(progress)),
            lambda notice: self._parent.ask(Report(notice=notice)),
        )

    @property
    def progress(self) -> Progress:
        """The progress of this process."""
        return self._in_flight.progress

    def run(self) -> None:
        try:
            self._in_flight.send_all(self._jobs())
        except _Cancelled:
            if self._journal.resumable:  # otherwise the jobs are cancelled already
                self._in_flight.cancel_all()
            raise

    def _jobs(self) -> Iterator[jobs.Job | JobColumns]:
        while (work := self._parent.ask(NextJob(self.progress))) is not None:
            self._window.resize(work.window)
            yield work.job


class _Parent:
    """The parent process, at the other end of a pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ask(self, message: Message) -> Any:
        """Send a message, and return the answer. Raises `ParentGone`."""
        try:
            self._connection.send(message)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise ParentGone("the parent process has ended") from error

    def end(self, message: Ended) -> None:
        """Send the last message, if the parent is still there."""
        with suppress(OSError):
            self._connection.send(message)


@dataclass
class _ParentsJournal:
    """The journal in the parent process."""

    parent: _Parent
    resumable: bool
    with_results: bool
    # The parent compares the models of all results.
    model_requested: str | None = None
    max_lengths: dict[str, int] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str | None] = field(default_factory=dict)
    #: The provenance of the results since the last message.
    observed: list[Provenance] = field(default_factory=list)

    def progress(self) -> Progress:
        """Return no progress: the parent counts what was scored earlier."""
        return Progress()

    def add_result(self, result: jobs.JobResult | ResultColumns) -> None:
        """Have a line appended for each query of a job."""
        if self.with_results:
            self._ask(Scored(result, self.observed.copy()))
            return
        self._add(result.job_id, list(journal_lines.of_result(result)), result.provenance)

    def add_part(self, result: ResultColumns) -> None:
        """Have the result of a part of a query noted."""
        if self.with_results:
            self._ask(Scored(result, self.observed.copy(), is_part=True))

    def add_failure(self, query_ids: list[str], failure: jobs.Failure) -> None:
        """Have a line appended for each query that has no ranking."""
        self._add(failure.job_id, list(journal_lines.of_failure(query_ids, failure)), None)

    def _add(self, job_id: str, lines: list[Line], source: Provenance | None) -> None:
        self._ask(Lines(job_id, lines, source, self.observed.copy()))

    def _ask(self, message: Lines | Scored) -> None:
        self.parent.ask(message)
        self.observed.clear()
