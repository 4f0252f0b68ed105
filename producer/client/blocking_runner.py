"""Run the procedures of the blocking client."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, TypeVar

from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.blocking import JobStore
from contract.store.connection import connect, connect_subscribers
from contract.store.operation import Operation, Schema
from producer.client import steps
from producer.client.attempts import Attempts
from producer.client.resumable_step import ResumableStep
from producer.client.steps import Call, Heard, Procedure, Step, Uninterrupted, Wait
from producer.client.watch import BatchWatch, Watch

T = TypeVar("T")


class BlockingRunner:
    """Runs procedures in the threads that call it."""

    def __init__(self, settings: Settings) -> None:
        self.schema = Schema(settings)
        self.store = JobStore(connect(settings), self.schema)
        self.subscriptions = connect_subscribers(settings)

    def run(self, procedure: Procedure[T], watch: Watch | BatchWatch | None = None) -> T:
        """Run a procedure, with `watch` if it waits for jobs, and return its result."""
        return steps.run(procedure, partial(self._perform, watch))

    def watch(self) -> Watch:
        """Return a watch; use it in a `with` block."""
        return Watch(self.subscriptions, self.store)

    def batch_watch(self, batch_id: str) -> BatchWatch:
        """Return a watch on the jobs of a batch; use it in a `with` block."""
        return BatchWatch(self.subscriptions, self.store, batch_id)

    def _perform(self, watch: Watch | BatchWatch | None, step: Step) -> Any:
        if isinstance(step, Uninterrupted):
            return self.run(step.procedure)
        attempts, resumable = Attempts(self.schema.settings), ResumableStep(step)
        while True:
            try:
                return self._attempt(watch, resumable.remaining())
            except RedisUnavailable as error:
                time.sleep(attempts.pause_after(error))

    def _attempt(self, watch: Watch | BatchWatch | None, step: Step) -> Any:
        match step:
            case Operation():
                return self.store.execute(step)
            case Call():
                return step.make()
            case Wait() if isinstance(watch, Watch):
                return watch.any_of(step.job_ids, step.timeout_s)
            case Heard() if isinstance(watch, BatchWatch):
                return watch.heard(step.timeout_s)
        raise TypeError(f"{step!r} needs a watch")
