"""Find lost jobs periodically, and send their messages again.

Celery on Redis can lose a message. A worker may be killed after it takes a message from the queue
and before it records that it holds it. A producer may be killed after it records a job and before
it sends the message. Also, when a whole worker is killed, its job would wait for the visibility
timeout. Sending a message too often is harmless, because a job that has ended or is leased is not
started again.

One worker at a time sweeps, in its main process, for some milliseconds.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from celery import bootsteps
from kombu.exceptions import OperationalError

from contract import names
from contract.errors import RedisUnavailable
from contract.printable import counted
from contract.store import server_checks, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from worker.jobs import lost_jobs, lost_turns
from worker.jobs.job_snapshots import JobSnapshot
from worker.monitoring import job_log
from worker.monitoring.job_log import Event
from worker.runtime.app import WorkerApp
from worker.runtime.connection import MAIN_TIMEOUT_S
from worker.runtime.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Time limit in seconds for sending in one sweep, because it blocks the main process.
SENDING_S = 1.0


def register(app: WorkerApp) -> None:
    """Add the sweeper to the workers of an app."""
    app.steps["consumer"].add(Sweeper)


def sweep(
    store: JobStore, settings: WorkerSettings, send: Callable[[JobSnapshot], object]
) -> list[str]:
    """Send the messages of lost jobs with `send(job)`, and return the ids of these jobs.

    Jobs that do not fit in the time limit are left to the next sweep. Raises `RedisUnavailable`.
    """
    schema = store.schema
    if not store.execute(_acquire_lock(schema, settings.sweep_every_s)):
        return []
    found = lost_jobs.find(store, settings.resend_after_s)
    began = time.monotonic()
    sent: list[str] = []
    for each in found.jobs:
        if time.monotonic() - began > SENDING_S:
            left = counted(len(found.jobs) - len(sent), "lost job")
            logger.warning("Leaving %s for the next sweep", left)
            return sent
        if each.waits:
            store.execute(lost_turns.leave(schema, each))
        send(each)
        store.execute(submissions.mark_sent(schema, each.job_id))
        sent.append(each.job_id)
    store.execute(lost_jobs.save_positions(schema, found.positions))
    return sent


def _acquire_lock(schema: Schema, sweep_every_s: float) -> Operation[bool]:
    hold_ms = round(900 * sweep_every_s)
    return Operation(
        lambda pipe: pipe.set(schema.keys.sweeper, os.getpid(), nx=True, px=hold_ms),
        lambda replies: bool(replies[0]),
    )


def send_again(app: WorkerApp, job: JobSnapshot) -> None:
    """Put a job's message on the queue, as its producer did."""
    app.send_task(
        names.SCORE_TASK,
        args=(job.job_id,),
        kwargs={"requests": job.requests, "pairs": job.pairs},
        task_id=job.job_id,
        queue=app.context.schema.keys.queue,
        priority=job.priority,
    )
    reason = "its message was lost, or its worker died"
    job_log.log(Event.RESENT, job.job_id, {"pairs": job.pairs}, reason=reason)


class Sweeper(bootsteps.StartStopStep):
    """A step of the worker's consumer that sweeps while the worker is connected."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._app: WorkerApp = consumer.app
        self._entry: Any = None
        self._clock_is_off = False

    def start(self, consumer: Any) -> None:
        """Start to sweep."""
        every_s = self._app.context.settings.sweep_every_s
        self._entry = consumer.timer.call_repeatedly(every_s, self._sweep)

    def stop(self, consumer: Any) -> None:
        """Stop sweeping."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _sweep(self) -> None:
        context, began = self._app.context, time.monotonic()
        store = context.store(MAIN_TIMEOUT_S)
        try:
            self._check_clock(store)
            sweep(store, context.settings, partial(send_again, self._app))
        except (RedisUnavailable, OperationalError, redis.RedisError) as error:
            logger.warning("Failed to search for lost jobs: %s", error)
        if (took_s := time.monotonic() - began) > 1:
            logger.warning("The search for lost jobs took %.1f s", took_s)

    def _check_clock(self, store: JobStore) -> None:
        """Warn once if the clock of this machine has been changed, not at every sweep."""
        warnings = store.execute(server_checks.check_clock())
        for warning in warnings if not self._clock_is_off else ():
            logger.warning("%s", warning)
        self._clock_is_off = bool(warnings)
