"""Run Flower with defaults for this service, and never open to everyone by accident.

`rerankq flower` needs no flags and only one variable, for a login. Flower's own options, on the
command line or as `FLOWER_*` variables, override these defaults.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from celery import signals

from contract import names
from worker.monitoring import flower_broker, flower_format, flower_options, flower_state
from worker.runtime.app import WorkerApp
from worker.runtime.connection import MAIN_TIMEOUT_S
from worker.runtime.settings import WorkerSettings

COMMAND = "flower"


def register(app: WorkerApp) -> None:
    """Set up Flower in this process, unless Celery runs another command."""
    context = click.get_current_context(silent=True)
    command = context.invoked_subcommand if context else None
    if command not in (None, COMMAND):
        return
    settings = app.context.settings
    set_defaults(settings)
    if command == COMMAND:
        arguments = sys.argv[sys.argv.index(COMMAND) + 1 :]
        flower_options.read_and_check(arguments, may_be_open=settings.flower_open)
    signals.import_modules.connect(_configure, sender=app)


def set_defaults(settings: WorkerSettings) -> None:
    """Set the variables of Flower's options to our defaults if they are unset or empty."""
    # A compose file passes unset variables as empty ones. An empty address means all addresses to
    # Flower.
    for name in [each for each in os.environ if each.startswith(flower_options.PREFIX)]:
        if not os.environ[name]:
            del os.environ[name]
    for option, value in defaults(settings).items():
        os.environ.setdefault(f"{flower_options.PREFIX}{option.upper()}", value)


def defaults(settings: WorkerSettings) -> dict[str, str]:
    """Return our defaults for Flower's options."""
    return {
        "address": "127.0.0.1",  # Flower's own default is all addresses
        "tasks_columns": "name,uuid,state,result,runtime,received,worker,kwargs",
        "persistent": "true",
        "db": str(_state_folder() / f"flower-{settings.namespace}"),
        "state_save_interval": "60000",  # ms; Flower answers no requests while it saves
        "max_tasks": "10000",  # about 90 MB
        "purge_offline_workers": "3600",  # s; each start of a container adds a name
        # Seconds. Jobs take from milliseconds up to the time limit.
        "task_runtime_metric_buckets": "0.01,0.03,0.1,0.3,1,3,10,30,60,120,300,600",
    }


def _state_folder() -> Path:
    """Return the folder for a program's state, by the XDG base directory specification."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "rerankq"


def _configure(sender: WorkerApp, **_: object) -> None:
    """Check Flower's options and add ours. Flower sends this signal before it listens."""
    command = click.get_current_context(silent=True)
    if command is None or command.info_name != COMMAND:
        return
    from flower.options import options

    worker = sender.context
    flower_options.check(options, may_be_open=worker.settings.flower_open)
    sender.conf.broker_transport_options |= names.options_of_no_worker(worker.settings)
    flower_broker.follow_primary(worker.settings)
    store = worker.store(MAIN_TIMEOUT_S)
    corrector = flower_state.TaskCorrector(store)

    def format_task(task: Any) -> Any:
        """Return the task as Flower shows it, with its outcome if Flower missed it."""
        corrector.correct(task)
        return flower_format.format_task(task)

    # A variable cannot hold a function.
    options.format_task = format_task
    if options.persistent:
        flower_state.correct_state_file(options.db, store)
