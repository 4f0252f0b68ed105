"""What Flower hears of a job beside what Celery tells it. Nothing depends on its being heard."""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task

from contract import names
from contract.models import short_name

logger = logging.getLogger(__name__)


def name_with(model: str) -> str:
    """Return the task's name in Flower's table once another model has the job."""
    return f"{names.SCORE_TASK}[{short_name(model)}]"


def send_downgraded(task: Task, model: str, reason: str) -> None:
    """Tell that the downgrade model scores the job now, whatever way its message came."""
    _send(task, "task-downgraded", name=name_with(model), reason=reason)


def send_cancelled(task: Task) -> None:
    """Tell that the job was cancelled; as far as Celery knows, its task was done."""
    _send(task, "task-revoked", terminated=False, signum=None, expired=False)


def _send(task: Task, event: str, **fields: Any) -> None:
    try:
        task.send_event(event, retry=False, **fields)
    except SoftTimeLimitExceeded:
        raise
    # Whatever it is, no job fails for it.
    except Exception as error:  # noqa: BLE001
        logger.warning("Flower was not told of %s (%s): %s", task.request.id, event, error)
