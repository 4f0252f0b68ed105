"""Check whether a worker is ready to score, for health checks: `python -m worker.health`.

Prints one line. The exit code is 0 if all children of the worker have their models, else 1.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import click
import redis
from celery.utils.nodenames import default_nodename, host_format
from kombu.exceptions import OperationalError

from contract.errors import NoWorker, RerankError
from contract.printable import counted
from contract.store import operation
from contract.store.redis_errors import translate
from worker.runtime.app import WorkerApp


def _node_name(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """Return the name of a worker that was started with `-n value`."""
    name: str = host_format(default_nodename(value))
    return name


def _reject_nan(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is not a valid number of seconds.")
    return value


@click.command(help=__doc__)
@click.option(
    "-d",
    "--destination",
    callback=_node_name,
    help="Name of the worker, as in celery worker -n.  [default: celery@HOSTNAME]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    callback=_reject_nan,
    default=5.0,
    show_default=True,
    help="Time to wait for an answer, in seconds.",
)
@click.pass_obj
def main(app: WorkerApp, destination: str, timeout: float) -> None:
    try:
        found = ask(app, destination, timeout)
    except RerankError as error:
        click.echo(f"{destination}: {error}", err=True)
        sys.exit(1)
    ready, children = found["ready"], found["children"]
    total = counted(children, "child", "children")
    line = f"{destination}: {ready} of {total} ready, model {found['model']}"
    if ready < children and found["stage"]:
        line += f": {found['stage']}"
    click.echo(line, err=ready < children)
    sys.exit(ready < children)


def ask(app: WorkerApp, worker: str, timeout_s: float) -> dict[str, Any]:
    """Return the readiness that the worker with this name reports: see `worker.runtime.pool`.

    Raises `NoWorker` or `RedisUnavailable`.
    """
    # Test the connection first, because Celery would retry it without a limit.
    context = app.context
    context.store(timeout_s).execute(operation.ping())
    try:
        replies = app.control.broadcast(
            "readiness", destination=[worker], reply=True, timeout=timeout_s, limit=1
        )
    except redis.RedisError as error:
        raise translate(error, context.settings) from error
    except OperationalError as error:
        raise NoWorker(f"the request could not be sent ({error})") from error
    if not replies:
        raise NoWorker(
            f"no answer within {timeout_s:g} s: the worker is not running, is not responding, is"
            " not connected to Redis, or has another name (--destination)"
        )
    answer: dict[str, Any] = replies[0][worker]
    return answer
