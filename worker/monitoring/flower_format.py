"""Format the results of tasks for Flower's table."""

from __future__ import annotations

import ast
import re
from typing import Any

from celery import states

from contract.models import short_name
from contract.printable import counted


def format_task(task: Any) -> Any:
    """Return the task with a short line as its result: what was scored, or why it failed.

    Flower passes a copy of its task. In the table, it escapes results but not exceptions, so the
    reason of a failure becomes the result.
    """
    if task.state == states.FAILURE:
        task.result = _format_error(task.exception or "")
    elif task.result:
        task.result = _format_summary(task.result)
    return task


def _format_summary(result: str) -> str:
    """Return the summary of a job as a line; Flower stores it as the representation of a dict."""
    try:
        summary = ast.literal_eval(result)
        downgraded = " (downgraded)" if summary["downgraded"] else ""
        truncated = f"{summary['truncated']:,} truncated, " if summary["truncated"] else ""
        speed = f"{counted(summary['pairs'], 'pair')}, {summary['pairs_per_s']:,.0f}/s"
        model = short_name(summary["model"])
        return f"{model}{downgraded}: {speed}, {truncated}{summary['seconds']:.2f} s"
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError):
        return result


def _format_error(exception: str) -> str:
    """Return the representation of an error as one line, as Python would print the error."""
    found = re.fullmatch(r"""(\w+)\((['"].*['"])\)""", exception)
    try:
        text = f"{found[1]}: {ast.literal_eval(found[2])}" if found else exception
    except (ValueError, SyntaxError):  # Celery truncated the representation
        text = exception
    return " ".join(text.split())
