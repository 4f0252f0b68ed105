"""Send events to Flower in addition to Celery's own. No function depends on their delivery."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task

from contract import names
from contract.models import short_name

logger = logging.getLogger(__name__)


def name_with(model: str) -> str:
    """Return the task's name in Flower's table after a switch to another model."""
    return f"{names.SCORE_TASK}[{short_name(model)}]"


def send_downgraded(task: Task, model: str, reason: str) -> None:
    """Report that the downgrade model now scores the job, however its message arrived."""
    _send(task, "task-downgraded", name=name_with(model), reason=reason)


def send_cancelled(task: Task) -> None:
    """Report that the job was cancelled, because Celery reports the task as successful."""
    _send(task, "task-revoked", terminated=False, signum=None, expired=False)


def _send(task: Task, event: str, **fields: Any) -> None:
    try:
        task.send_event(event, retry=False, **fields)
    # No error here may fail the job.
    except Exception as error:  # noqa: BLE001
        logger.warning("Failed to send %s of job %s to Flower: %s", event, task.request.id, error)
