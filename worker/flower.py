"""Flower as it is shipped: its settings, and no way to leave it open by accident.

`celery -A worker flower` needs no flags, and one variable: a login. Flower's own options, on the
command line or as `FLOWER_*` variables, win over what stands here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from celery import signals

from worker.settings import WorkerSettings

#: EX_CONFIG of sysexits.h: what Flower ends with that nobody has to log in to.
EXIT_NO_LOGIN = 78

OPEN_MESSAGE = (
    "Flower does not start: everybody who reaches it could read all, and stop workers. Set"
    " FLOWER_BASIC_AUTH=USER:PASSWORD, or RERANKQ_FLOWER_OPEN=true if that is meant."
)


def set_defaults(settings: WorkerSettings) -> None:
    """Give Flower, should this process be one, its options: as variables, for those not set."""
    # A compose file passes on as empty what is not set; to Flower, that is a login without a name.
    if not os.environ.get("FLOWER_BASIC_AUTH"):
        os.environ.pop("FLOWER_BASIC_AUTH", None)
    for option, value in _defaults(settings).items():
        os.environ.setdefault(f"FLOWER_{option.upper()}", value)


def _defaults(settings: WorkerSettings) -> dict[str, str]:
    return {
        "address": "127.0.0.1",  # without one it would listen on all
        "tasks_columns": "name,uuid,state,kwargs,result,exception,received,runtime,worker",
        "persistent": "true",
        "db": str(_state_folder() / f"flower-{settings.namespace}"),
        "state_save_interval": "60000",  # ms; it is busy with saving for a part of a second
        "max_tasks": "10000",  # about 60 MB
        "purge_offline_workers": "3600",  # s; a container's new name at each start adds up
        # Seconds. Jobs take from some milliseconds to the time limit.
        "task_runtime_metric_buckets": "0.01,0.03,0.1,0.3,1,3,10,30,60,120,300,600",
    }


def _state_folder() -> Path:
    """Where the XDG base directory specification has a program's state."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "rerankq"


@signals.import_modules.connect
def _check(**_: object) -> None:
    """Flower calls this before it listens, with its options complete."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "flower":
        return
    from flower.options import options

    if not (_has_login(options) or WorkerSettings.load().flower_open):
        print(OPEN_MESSAGE, file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_NO_LOGIN)
    if options.persistent:
        # Flower reads its state back with pickle: the folder is for its user alone.
        Path(options.db).absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _has_login(options: object) -> bool:
    """Whether there are users, each with a name and a password, or another way to log in."""
    logins = getattr(options, "basic_auth", None) or []
    if logins:
        return all(all(login.partition(":")[::2]) for login in logins)
    return bool(getattr(options, "auth", None))
