"""Looks for jobs that nobody will do, and sends their messages again.

Celery on Redis may lose a message: a worker that is killed between taking it from the queue and
noting that it holds it, a producer that is killed between putting the job on record and sending it.
And a job whose worker was killed as a whole would wait for the visibility timeout. Sending one time
too many is harmless: a job that has ended, or is leased, is not begun again.

One worker at a time looks, in its main process, for some milliseconds.
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
from contract.store import server_checks, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from worker.jobs import lost_jobs
from worker.jobs.job_snapshots import JobSnapshot
from worker.monitoring import job_log
from worker.monitoring.job_log import Event
from worker.runtime.app import WorkerApp
from worker.runtime.connection import MAIN_TIMEOUT_S
from worker.runtime.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Seconds for sending in one sweep, during which the main process looks after nothing else.
SENDING_S = 1.0


def register(app: WorkerApp) -> None:
    """Have the workers of an app sweep."""
    app.steps["consumer"].add(Sweeper)


def sweep(
    store: JobStore, settings: WorkerSettings, send: Callable[[JobSnapshot], object]
) -> list[str]:
    """Send the messages of lost jobs with `send(job)`; return their ids.

    What there is no time for is left to the next sweep. Raises `RedisUnavailable`.
    """
    schema = store.schema
    if not store.execute(_acquire_lock(schema, settings.sweep_every_s)):
        return []
    found = lost_jobs.find(store, settings.resend_after_s)
    began = time.monotonic()
    sent: list[str] = []
    for each in found.jobs:
        if time.monotonic() - began > SENDING_S:
            logger.warning("%d lost jobs are left to the next sweep", len(found.jobs) - len(sent))
            return sent
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
    reason = "it had no message, or its worker died"
    job_log.log(Event.RESENT, job.job_id, {"pairs": job.pairs}, reason=reason)


class Sweeper(bootsteps.StartStopStep):
    """Has the worker sweep as long as it has a connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._app: WorkerApp = consumer.app
        self._entry: Any = None
        self._clock_is_off = False

    def start(self, consumer: Any) -> None:
        """Sweep from now on."""
        every_s = self._app.context.settings.sweep_every_s
        self._entry = consumer.timer.call_repeatedly(every_s, self._sweep)

    def stop(self, consumer: Any) -> None:
        """Sweep no more."""
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
            logger.warning("Lost jobs were not looked for: %s", error)
        if (took_s := time.monotonic() - began) > 1:
            logger.warning("Looking for lost jobs took %.1f s", took_s)

    def _check_clock(self, store: JobStore) -> None:
        """Warn when the clock of this machine has been moved, and not at every sweep after that."""
        warnings = store.execute(server_checks.check_clock())
        for warning in warnings if not self._clock_is_off else ():
            logger.warning("Warning: %s", warning)
        self._clock_is_off = bool(warnings)
