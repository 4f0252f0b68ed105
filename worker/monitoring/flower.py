"""Flower as it is shipped: its settings, and no way to leave it open by accident.

`celery -A worker flower` needs no flags, and one variable: a login. Flower's own options, on the
command line or as `FLOWER_*` variables, win over what stands here.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

import click
from celery import signals, states

from contract.models import short_name
from worker.monitoring import flower_options, flower_state
from worker.runtime.app import WorkerApp
from worker.runtime.connection import MAIN_TIMEOUT_S
from worker.runtime.settings import WorkerSettings


def set_defaults(settings: WorkerSettings) -> None:
    """Give Flower, should this process be one, its options: as variables, for those not set."""
    # A compose file passes on as empty what is not set; to Flower, an empty address is all of them.
    for name in [each for each in os.environ if each.startswith(flower_options.PREFIX)]:
        if not os.environ[name]:
            del os.environ[name]
    for option, value in defaults(settings).items():
        os.environ.setdefault(f"FLOWER_{option.upper()}", value)
    if "flower" in sys.argv[1:]:
        flower_options.read(may_be_open=settings.flower_open)


def defaults(settings: WorkerSettings) -> dict[str, str]:
    """Flower's options where nobody has said otherwise."""
    return {
        "address": "127.0.0.1",  # without one it would listen on all
        "tasks_columns": "name,uuid,state,result,runtime,received,worker,kwargs",
        "persistent": "true",
        "db": str(_state_folder() / f"flower-{settings.namespace}"),
        "state_save_interval": "60000",  # ms; it is busy with saving for a part of a second
        "max_tasks": "10000",  # 90 MB
        "purge_offline_workers": "3600",  # s; a container's new name at each start adds up
        # Seconds. Jobs take from some milliseconds to the time limit.
        "task_runtime_metric_buckets": "0.01,0.03,0.1,0.3,1,3,10,30,60,120,300,600",
    }


def _state_folder() -> Path:
    """Where the XDG base directory specification has a program's state."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "rerankq"


@signals.import_modules.connect
def _check(sender: WorkerApp, **_: object) -> None:
    """Flower calls this before it listens, with its options complete."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "flower":
        return
    from flower.options import options

    worker = sender.context
    flower_options.check(options, may_be_open=worker.settings.flower_open)
    store = worker.store(MAIN_TIMEOUT_S)
    lookup = flower_state.Lookup(store)

    def looked_up(task: Any) -> Any:
        """Return the task as Flower shows it, with its end if Flower missed that."""
        lookup.correct(task)
        return format_task(task)

    # No variable can hold a function.
    options.format_task = looked_up
    if options.persistent:
        flower_state.correct(options.db, store)


def format_task(task: Any) -> Any:
    """What Flower shows as a task's result: what was scored in a short line, or why it failed.

    Flower gives a copy. It shows a result as text; an exception in the table, as HTML.
    """
    if task.state == states.FAILURE:
        task.result = _reason(task.exception or "")
    elif task.result:
        task.result = _in_words(task.result)
    return task


def _in_words(result: str) -> str:
    """The summary of `worker.jobs.attempt`, of which Flower has the representation."""
    try:
        made = ast.literal_eval(result)
        downgraded = " (downgraded)" if made["downgraded"] else ""
        truncated = f"{made['truncated']:,} truncated, " if made["truncated"] else ""
        speed = f"{made['pairs']:,} pairs, {made['pairs_per_s']:,.0f}/s"
        model = short_name(made["model"])
        return f"{model}{downgraded}: {speed}, {truncated}{made['seconds']:.2f} s"
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError):
        return result


def _reason(exception: str) -> str:
    """The representation of an error, in one line as Python prints it."""
    found = re.fullmatch(r"""(\w+)\((['"].*['"])\)""", exception)
    try:
        text = f"{found[1]}: {ast.literal_eval(found[2])}" if found else exception
    except (ValueError, SyntaxError):  # it was too long, and is cut
        text = exception
    return " ".join(text.split())
