"""Flower's state file, corrected before Flower reads it.

Flower shows what it heard. A job that ended while it was away would stay STARTED for ever; the
job's record says how it ended. The file is a shelf with Celery's `State` under the key "events";
one that cannot be read is left to Flower.
"""

from __future__ import annotations

import dbm
import logging
import shelve
from typing import Any

from contract import names
from contract.errors import JobNotFound, RedisUnavailable
from contract.jobs import JobState, JobStatus
from contract.store import JobStore

logger = logging.getLogger(__name__)

AWAY = "ended while Flower was away"
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
        logger.warning("Tasks that ended while Flower was away may be shown as running: %s", error)
        return 0
    # A shelf of another version or a damaged one raises anything; Flower puts it aside.
    except Exception as error:  # noqa: BLE001
        logger.warning("Flower's state in %s was not corrected: %r", path, error)
        return 0
    if corrected:
        logger.info("%d tasks %s", corrected, AWAY)
    return corrected


def _unfinished(state: Any) -> list[Any]:
    if state is None:
        return []
    ours = (
        task for _, task in state.tasks.items() if (task.name or "").startswith(names.SCORE_TASK)
    )
    return [task for task in ours if not task.ready and task.state != UNKNOWN.upper()]


def _correct(task: Any, store: JobStore) -> bool:
    """Tell the task how its job ended, if it has; return whether it has."""
    try:
        status = store.do(store.records.status(task.uuid))
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
        return "failed", {"exception": f"{status.code}: {AWAY}"}
    seconds = (status.ended_at or 0) - (status.started_at or status.submitted_at)
    return "succeeded", {"result": f"{status.pairs:,} pairs: {AWAY}", "runtime": max(0.0, seconds)}
