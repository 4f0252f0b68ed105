"""Correct the states that Flower shows, using the records of the jobs.

Flower knows only the events that it received. A job that ended while Flower was stopped or
disconnected from Redis would stay STARTED forever. The job's record has its outcome.

The state file, a shelf with Celery's `State` under the key "events", is corrected before Flower
reads it. A file that cannot be read is left to Flower. While Flower runs, a task without recent
events is corrected when it is shown.
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
from contract.printable import counted
from contract.store import statuses
from contract.store.blocking import JobStore

logger = logging.getLogger(__name__)

#: A shown task is looked up if its last event is older than this.
QUIET_S = 60.0
#: How long to skip lookups after Redis did not answer, because Flower blocks during a lookup.
PAUSE_S = 30.0

MISSED = "ended while Flower was not connected"
#: Celery accepts any name as a state, and Flower shows it.
UNKNOWN = "unknown"


def correct_state_file(path: str, store: JobStore) -> int:
    """Correct all tasks in the file whose jobs have ended, and return their number."""
    if not dbm.whichdb(path):  # there is no file yet
        return 0
    try:
        with shelve.open(path) as shelf:  # noqa: S301
            state = shelf.get("events")
            corrected = sum(_apply_outcome(task, store) for task in _unfinished(state))
            if corrected:
                shelf["events"] = state
    except RedisUnavailable as error:
        logger.warning("Flower may show tasks as running that have ended: %s", error)
        return 0
    # A damaged shelf, or one of another version, can raise any error. Flower moves it away.
    except Exception as error:  # noqa: BLE001
        logger.warning("Failed to correct Flower's state in %s: %r", path, error)
        return 0
    if corrected:
        logger.info("Corrected %s that %s", counted(corrected, "task"), MISSED)
    return corrected


class TaskCorrector:
    """Corrects a task when it is shown."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        """Return whether lookups are paused because Redis did not answer recently."""
        return time.time() < self._paused_until

    def correct(self, task: Any) -> None:
        """Set the task's outcome from its job, if the job has ended and the last event is old."""
        quiet_s = time.time() - (task.timestamp or 0)
        if self.paused or quiet_s < QUIET_S or not _is_unfinished(task):
            return
        try:
            _apply_outcome(task, self._store)
        except RerankError as error:
            self._paused_until = time.time() + PAUSE_S
            logger.warning(
                "Flower may show task %s as running although it has ended: %s", task.uuid, error
            )


def _unfinished(state: Any) -> list[Any]:
    tasks = () if state is None else state.tasks.values()
    return [task for task in tasks if _is_unfinished(task)]


def _is_unfinished(task: Any) -> bool:
    ours = (task.name or "").startswith(names.SCORE_TASK)
    return ours and not task.ready and task.state != UNKNOWN.upper()


def _apply_outcome(task: Any, store: JobStore) -> bool:
    """Set the task's outcome from its job; return False if the job has not ended."""
    try:
        status = store.execute(statuses.fetch(store.schema, task.uuid))
    except JobNotFound:
        task.event(
            UNKNOWN,
            task.timestamp,
            fields={"result": "the record of this job has expired or was deleted"},
        )
        return True
    if status.ended_at is None:
        return False
    event, fields = _final_event(status)
    task.event(event, status.ended_at, fields=fields)
    return True


def _final_event(status: JobStatus) -> tuple[str, dict[str, Any]]:
    """Return the type of Celery's event for the outcome, and the event's fields."""
    if status.state is JobState.CANCELLED:
        return "revoked", {}
    if status.state is JobState.FAILED:
        return "failed", {"exception": f"{status.code}: {MISSED}"}
    seconds = (status.ended_at or 0) - (status.started_at or status.submitted_at)
    return "succeeded", {
        "result": f"{counted(status.pairs, 'pair')}: {MISSED}",
        "runtime": max(0.0, seconds),
    }
