"""What Flower missed, from the records of the jobs.

Flower shows what it heard. A job that ended while it was away, or had no connection to Redis, would
stay STARTED for ever; the job's record says how it ended. The state file is corrected before Flower
reads it: a shelf with Celery's `State` under the key "events"; one that cannot be read is left to
Flower. After that, tasks of which nothing was heard for a while are corrected as they are shown.
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

#: A task that is shown is looked up if nothing was heard of it for so long.
QUIET_S = 60.0
#: How long nothing is looked up after Redis did not answer: Flower serves nobody meanwhile.
PAUSE_S = 30.0

MISSED = "ended while Flower did not hear of it"
#: Celery takes any name as a state of its own; Flower shows it.
UNKNOWN = "unknown"


def correct(path: str, store: JobStore) -> int:
    """Give all tasks in the file that have ended their end; return how many those were."""
    if not dbm.whichdb(path):  # not there yet
        return 0
    try:
        with shelve.open(path) as shelf:  # noqa: S301
            state = shelf.get("events")
            corrected = sum(_correct(task, store) for task in _unfinished(state))
            if corrected:
                shelf["events"] = state
    except RedisUnavailable as error:
        logger.warning("Tasks of jobs that have ended may be shown as running: %s", error)
        return 0
    # A shelf of another version or a damaged one raises anything; Flower puts it aside.
    except Exception as error:  # noqa: BLE001
        logger.warning("Flower's state in %s was not corrected: %r", path, error)
        return 0
    if corrected:
        logger.info("%d tasks %s", corrected, MISSED)
    return corrected


class Lookup:
    """Corrects a task that is about to be shown."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._paused_until = 0.0

    @property
    def pauses(self) -> bool:
        """Whether Redis has not answered just now, so that no task is looked up."""
        return time.time() < self._paused_until

    def correct(self, task: Any) -> None:
        """Give the task its end if its job has one, and nothing was heard of it for a while."""
        quiet_s = time.time() - (task.timestamp or 0)
        if self.pauses or quiet_s < QUIET_S or not _is_unfinished(task):
            return
        try:
            _correct(task, self._store)
        except RerankError as error:
            self._paused_until = time.time() + PAUSE_S
            logger.warning("Task %s may be shown as running: %s", task.uuid, error)


def _unfinished(state: Any) -> list[Any]:
    tasks = () if state is None else state.tasks.values()
    return [task for task in tasks if _is_unfinished(task)]


def _is_unfinished(task: Any) -> bool:
    ours = (task.name or "").startswith(names.SCORE_TASK)
    return ours and not task.ready and task.state != UNKNOWN.upper()


def _correct(task: Any, store: JobStore) -> bool:
    """Tell the task how its job ended, if it has; return whether it has."""
    try:
        status = store.execute(statuses.fetch(store.schema, task.uuid))
    except JobNotFound:
        task.event(UNKNOWN, task.timestamp, fields={"result": "there is no record of it any more"})
        return True
    if status.ended_at is None:
        return False
    event, fields = _end(status)
    task.event(event, status.ended_at, fields=fields)
    return True


def _end(status: JobStatus) -> tuple[str, dict[str, Any]]:
    """Return the type of Celery's event, and what it says."""
    if status.state is JobState.CANCELLED:
        return "revoked", {}
    if status.state is JobState.FAILED:
        return "failed", {"exception": f"{status.code}: {MISSED}"}
    seconds = (status.ended_at or 0) - (status.started_at or status.submitted_at)
    return "succeeded", {
        "result": f"{status.pairs:,} pairs: {MISSED}",
        "runtime": max(0.0, seconds),
    }
