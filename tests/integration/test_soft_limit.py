"""The signal of the soft time limit ends scoring, and never leaves the end of an attempt half done.

The process has the handler of a worker's child, and sends itself the signal. In the first attempt
that is at the first call, in the next attempt at the second call, and so on.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from billiard import pool
from celery.exceptions import Retry

from contract.errors import PayloadMissing
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import statuses
from contract.store.blocking import JobStore
from tests.integration.deliveries import HUNGRY, Delivery, accept, headers
from tests.integration.stand_ins import begin
from tests.processes import linux_only

pytestmark = linux_only

#: The signal arrives at the calls in these folders and files.
PLACES = tuple(
    str(Path(__file__).parents[2] / name)
    for name in ("worker/jobs", "worker/monitoring", "worker/runtime/context.py")
)
#: Fewer than any attempt makes.
CALLS = 20


class End(NamedTuple):
    """The end of an attempt: for Celery, on record, on the queue, and in the log."""

    returned: type
    state: JobState
    #: How many messages there are for further attempts.
    messages: int
    log: tuple[str, ...]


DONE = End(dict, JobState.DONE, 0, ("running", "done"))
FAILED = End(PayloadMissing, JobState.FAILED, 0, ("failed",))
DOWNGRADED = End(Retry, JobState.QUEUED, 1, ("running", "downgraded"))
DEFERRED = End(Retry, JobState.RUNNING, 1, ("deferred",))


class Interruption:
    """Sends the signal once: at a call with this number, or when a built-in function returns.

    Python runs the handlers of signals there.
    """

    def __init__(self, number: int) -> None:
        self._left = number

    @property
    def sent(self) -> bool:
        return self._left < 0

    def during(self, call: Callable[[], Any]) -> Any:
        """Return what the call returns, or its exception."""
        before = sys.getprofile()
        sys.setprofile(self._count)
        try:
            return call()
        except Exception as error:  # noqa: BLE001
            return error
        finally:
            sys.setprofile(before)

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PLACES):
            self._left -= 1
            if self._left == -1:
                signal.raise_signal(signal.SIGUSR1)


@dataclass(frozen=True)
class Child:
    """A process that runs one attempt after the other."""

    delivery: Delivery
    settings: Settings
    store: JobStore
    log: pytest.LogCaptureFixture

    def ends(self, prepare: Callable[[JobStore, str], object]) -> Counter[End]:
        """Return how attempts end that are interrupted at one call after the other.

        Each one's job is prepared before. In a child that has run no job, the handler is another
        one until the job starts.
        """
        self._end("first", prepare, Interruption(sys.maxsize))
        ends = Counter[End]()
        interruption = Interruption(0)
        while ends.total() < CALLS or interruption.sent:
            interruption = Interruption(ends.total())
            ends[self._end(f"job-{ends.total()}", prepare, interruption)] += 1
        return ends

    def _end(
        self, job_id: str, prepare: Callable[[JobStore, str], object], interruption: Interruption
    ) -> End:
        accept(self.store, job_id)
        prepare(self.store, job_id)
        self.log.clear()
        returned = interruption.during(lambda: self.delivery.run(job_id))
        sent = headers(self.store.client, self.settings)
        self.store.client.delete(*self.store.schema.keys.queue_lists)
        return End(
            type(returned),
            self.store.execute(statuses.fetch(self.store.schema, job_id)).state,
            [each["id"] for each in sent].count(job_id),
            tuple(
                text.split()[2].rstrip(":")
                for text in self.log.messages
                if text.startswith(f"Job {job_id} ")
            ),
        )


@pytest.fixture
def child(
    request: pytest.FixtureRequest,
    settings: Settings,
    store: JobStore,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Child]:
    """Return a process with a model, by default the stub."""
    caplog.set_level("INFO")
    delivery = Delivery(settings, getattr(request, "param", "stub"))
    before = signal.signal(signal.SIGUSR1, pool.soft_timeout_sighandler)
    yield Child(delivery, settings, store, caplog)
    signal.signal(signal.SIGUSR1, before)
    delivery.app.close()


def test_a_job_is_done_or_goes_to_the_downgrade_model_whenever_the_signal_arrives(
    child: Child,
) -> None:
    assert set(child.ends(lambda _store, _job: None)) == {DONE, DOWNGRADED}


@pytest.mark.parametrize("child", [HUNGRY], indirect=True)
def test_a_job_that_runs_out_of_memory_is_downgraded_whenever_the_signal_arrives(
    child: Child,
) -> None:
    assert set(child.ends(lambda _store, _job: None)) == {DOWNGRADED}


def test_a_job_that_cannot_be_done_fails_whenever_the_signal_arrives(child: Child) -> None:
    def remove_payload(store: JobStore, job_id: str) -> None:
        store.client.delete(store.schema.keys.payload(job_id))

    assert set(child.ends(remove_payload)) == {FAILED}


def test_a_job_that_another_attempt_has_is_deferred_whenever_the_signal_arrives(
    child: Child,
) -> None:
    def begin_elsewhere(store: JobStore, job_id: str) -> None:
        store.execute(begin(store.schema, job_id))

    assert set(child.ends(begin_elsewhere)) == {DEFERRED}


def test_a_child_that_has_no_job_ignores_the_signal(child: Child, store: JobStore) -> None:
    accept(store)
    child.delivery.run("j")

    signal.raise_signal(signal.SIGUSR1)
