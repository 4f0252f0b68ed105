"""Corrects what Flower shows, from the records of the jobs.

Flower knows only the events that it received. A job that ended while Flower was stopped, or had no
connection to Redis, would stay STARTED for ever. Its record says how it ended. The state file, a
shelf with Celery's `State` under the key "events", is corrected before Flower reads it; a file that
cannot be read is left to Flower. While Flower runs, a task without recent events is corrected when
it is shown.
"""

from __future__ import annotations

import dbm
import logging
import shelve
import time
from typing import Any

from contract import names
from contract.errors import JobNotFound, RedisUnavailable, RerankError
from contract.jobs import JobState, JobStatus
from contract.store import statuses
from contract.store.blocking import JobStore

logger = logging.getLogger(__name__)

#: A task that is shown is looked up if its last event is older.
QUIET_S = 60.0
#: How long no task is looked up after Redis did not answer: Flower serves no request meanwhile.
PAUSE_S = 30.0

MISSED = "ended while Flower did not hear of it"
#: Celery accepts any name as a state, and Flower shows it.
UNKNOWN = "unknown"


def correct_state_file(path: str, store: JobStore) -> int:
    """Correct all tasks in the file whose jobs have ended; return how many those were."""
    if not dbm.whichdb(path):  # there is no file yet
        return 0
    try:
        with shelve.open(path) as shelf:  # noqa: S301
            state = shelf.get("events")
            corrected = sum(_apply_outcome(task, store) for task in _unfinished(state))
            if corrected:
                shelf["events"] = state
    except RedisUnavailable as error:
        logger.warning("Tasks of jobs that have ended may be shown as running: %s", error)
        return 0
    # A damaged shelf, or one of another version, raises anything. Flower moves it away.
    except Exception as error:  # noqa: BLE001
        logger.warning("Flower's state in %s was not corrected: %r", path, error)
        return 0
    if corrected:
        logger.info("%d tasks %s", corrected, MISSED)
    return corrected


class TaskCorrector:
    """Corrects a task that is about to be shown."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        """Whether no task is looked up, because Redis did not answer a short time ago."""
        return time.time() < self._paused_until

    def correct(self, task: Any) -> None:
        """Give the task the outcome of its job, if that has ended and the last event is old."""
        quiet_s = time.time() - (task.timestamp or 0)
        if self.paused or quiet_s < QUIET_S or not _is_unfinished(task):
            return
        try:
            _apply_outcome(task, self._store)
        except RerankError as error:
            self._paused_until = time.time() + PAUSE_S
            logger.warning("Task %s may be shown as running: %s", task.uuid, error)


def _unfinished(state: Any) -> list[Any]:
    tasks = () if state is None else state.tasks.values()
    return [task for task in tasks if _is_unfinished(task)]


def _is_unfinished(task: Any) -> bool:
    ours = (task.name or "").startswith(names.SCORE_TASK)
    return ours and not task.ready and task.state != UNKNOWN.upper()


def _apply_outcome(task: Any, store: JobStore) -> bool:
    """Give the task the outcome of its job; return False if the job has not ended."""
    try:
        status = store.execute(statuses.fetch(store.schema, task.uuid))
    except JobNotFound:
        task.event(UNKNOWN, task.timestamp, fields={"result": "there is no record of it any more"})
        return True
    if status.ended_at is None:
        return False
    event, fields = _final_event(status)
    task.event(event, status.ended_at, fields=fields)
    return True


def _final_event(status: JobStatus) -> tuple[str, dict[str, Any]]:
    """Return the type of Celery's event for the outcome, and its fields."""
    if status.state is JobState.CANCELLED:
        return "revoked", {}
    if status.state is JobState.FAILED:
        return "failed", {"exception": f"{status.code}: {MISSED}"}
    seconds = (status.ended_at or 0) - (status.started_at or status.submitted_at)
    return "succeeded", {
        "result": f"{status.pairs:,} pairs: {MISSED}",
        "runtime": max(0.0, seconds),
    }
