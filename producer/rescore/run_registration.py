"""Store the progress of a run for others: `rerankq status --batches` lists it while it works."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.batches import RunProgress, RunState
from contract.errors import RedisUnavailable, RerankError
from producer.client.columns import ColumnsClient
from producer.rescore.journal import Journal
from producer.rescore.progress import Progress

#: The shortest interval between two changes of the stored progress.
NOTE_EVERY_S = 1.0


@contextmanager
def registered(
    client: ColumnsClient,
    journal: Journal,
    pairs: int,
    earlier: Progress,
    show: Callable[[Progress], object],
) -> Iterator[Callable[[Progress], None]]:
    """List a run; yield a function that shows its progress and stores it for the list.

    If Redis is away, or refuses to store it, the run continues, and reports an outage by itself. A
    run whose process was killed is listed as interrupted.
    """
    run = _Registration(client, journal, pairs, earlier)
    run.note(earlier, RunState.RUNNING)

    def report(progress: Progress) -> None:
        show(progress)
        run.report(progress)

    try:
        yield report
    except BaseException:
        run.note(run.last, RunState.STOPPED)
        raise
    run.note(run.last, RunState.DONE)


class _Registration:
    """Stores the progress of a run, at most once a second."""

    def __init__(
        self, client: ColumnsClient, journal: Journal, pairs: int, earlier: Progress
    ) -> None:
        self._client = client
        self._run_id = journal.run_id
        self._label = Path(journal.output).name
        self._pairs = pairs
        self._earlier_pairs = earlier.done_pairs
        self._began = self._noted = time.monotonic()
        self._refused = False
        self.last = earlier

    def report(self, progress: Progress) -> None:
        """Store the progress, unless the last time is too recent."""
        self.last = progress
        if time.monotonic() - self._noted >= NOTE_EVERY_S:
            self.note(progress, RunState.RUNNING)

    def note(self, progress: Progress, state: RunState) -> None:
        """Store the progress and the state, unless Redis has refused it before."""
        if self._refused:
            return
        try:
            self._client.note_run(self._run(progress, state))
        except RedisUnavailable as error:
            self._refused = not error.retryable
        except RerankError:
            self._refused = True
        self._noted = time.monotonic()

    def _run(self, progress: Progress, state: RunState) -> RunProgress:
        done = progress.done_pairs - self._earlier_pairs
        speed = done / max(time.monotonic() - self._began, 1e-6) if done else None
        left_s = (self._pairs - progress.done_pairs) / speed if speed else None
        return RunProgress(
            run_id=self._run_id,
            label=self._label,
            host=socket.gethostname(),
            pid=os.getpid(),
            state=state,
            queries=progress.queries,
            failed_queries=progress.failed_queries,
            pairs=self._pairs,
            done_pairs=progress.done_pairs,
            pairs_per_s=speed,
            left_s=left_s if state is RunState.RUNNING else None,
        )
