"""What a worker sees to before it takes its first message."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import signals
from celery.worker.control import Panel

from contract.errors import RerankError
from contract.store import server_checks
from worker.runtime.connection import MAIN_TIMEOUT_S, schema, store

logger = logging.getLogger(__name__)

#: Commands of remote control that let a worker do what its settings do not say: keep other time
#: limits than those that its leases and timeouts fit, read other queues, or run other code.
REFUSED_COMMANDS = (
    *("time_limit", "rate_limit", "pool_restart", "autoscale"),
    *("add_consumer", "cancel_consumer", "memdump", "memsample"),
)


@signals.worker_init.connect
def _refuse_commands(**_: Any) -> None:
    for command in REFUSED_COMMANDS:
        Panel.data.pop(command, None)
        Panel.meta.pop(command, None)


@signals.worker_init.connect
def _restart_as_started(**_: Any) -> None:
    """Let Celery restart the worker at SIGHUP with the command that started it.

    It executes `sys.argv`, which for `python -m celery` is the path of a file that cannot be run.
    """
    sys.argv = sys.orig_argv[1:]


@signals.celeryd_after_setup.connect
def _warn_of_server(**_: Any) -> None:
    try:
        for warning in store(MAIN_TIMEOUT_S).execute(server_checks.check_all(schema)):
            logger.warning("Warning: %s", warning)
    except RerankError as error:
        logger.warning("The settings of Redis cannot be checked: %s", error)
