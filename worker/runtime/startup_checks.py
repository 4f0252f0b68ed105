"""Checks that a worker makes before it receives its first message."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from celery import signals
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.control import Panel

from contract import environment, redis_tls
from contract.errors import RerankError
from contract.redis_url import NO_CLUSTER
from contract.store import server_checks
from worker.runtime.connection import MAIN_TIMEOUT_S
from worker.runtime.context import WorkerContext
from worker.runtime.exits import exit_misconfigured
from worker.runtime.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Remote control commands that would change what the settings specify: time limits that no longer
#: fit leases and timeouts, other queues, or other code.
REFUSED_COMMANDS = (
    *("time_limit", "rate_limit", "pool_restart", "autoscale"),
    *("add_consumer", "cancel_consumer", "memdump", "memsample"),
)


def register() -> None:
    """Make Celery run these checks when a worker starts."""
    signals.celeryd_init.connect(_check_queues)
    signals.worker_init.connect(_prepare)
    signals.celeryd_after_setup.connect(_warn)


def _check_queues(options: dict[str, Any], instance: Any, **_: Any) -> None:
    """Exit with a message if the worker would not serve the queue of its namespace, or others."""
    queue = instance.app.context.settings.namespace
    chosen, excluded = options.get("queues"), options.get("exclude_queues")
    if (chosen and {*chosen} != {queue}) or queue in (excluded or ()):
        exit_misconfigured(
            f"Error: --queues and --exclude-queues cannot choose another queue than {queue!r}. For"
            " a service with a separate queue, set RERANKQ_NAMESPACE for its workers and clients"
        )


def _prepare(**_: Any) -> None:
    for command in REFUSED_COMMANDS:
        Panel.data.pop(command, None)
        Panel.meta.pop(command, None)
    # On SIGHUP, Celery restarts with `sys.argv`, which under `python -m celery` is the path of a
    # file that cannot be executed.
    sys.argv = sys.orig_argv[1:]


def _warn(instance: Any, **_: Any) -> None:
    # Celery warns about the default of a setting on each lost connection, even if it is set. It
    # asks for all such warnings when it sets up its log, so they are ignored after that.
    warnings.filterwarnings("ignore", "\nIn Celery 5.1 we introduced", CPendingDeprecationWarning)
    context: WorkerContext = instance.app.context
    _warn_of_unchecked_tls(context.settings)
    warn_of_unknown_variables()
    _warn_of_server(context)


def _warn_of_unchecked_tls(settings: WorkerSettings) -> None:
    tls_options = settings.redis_tls
    if tls_options is None:
        return
    for unchecked, off in ((redis_tls.CERT_REQS, "none"), (redis_tls.CHECK_HOSTNAME, False)):
        if tls_options[unchecked] == off:
            logger.warning(
                "The connection to %s is not secure, because RERANKQ_REDIS_URL disables %s: anyone"
                " on the network path can read and change all data",
                settings.redis_location,
                unchecked,
            )


def warn_of_unknown_variables() -> None:
    """Warn about variables with the prefix of our settings that match no setting."""
    # The variables of commands are usually in the same file.
    ours = (name for name in os.environ if not name.startswith(environment.COMMAND_PREFIXES))
    for warning in environment.unknown_variables(
        ours, map(environment.variable, WorkerSettings.model_fields)
    ):
        logger.warning("%s", warning)


def _warn_of_server(context: WorkerContext) -> None:
    try:
        if context.store(MAIN_TIMEOUT_S).execute(server_checks.cluster_mode()):
            exit_misconfigured(f"Error: {NO_CLUSTER}")
        for warning in context.store(MAIN_TIMEOUT_S).execute(
            server_checks.check_all(context.schema)
        ):
            logger.warning("%s", warning)
    except RerankError as error:
        logger.warning("Failed to check the settings of Redis: %s", error)
