"""Programs that embed our packages; each prints, as JSON, what has changed in its process.

python -m tests.integration.host_programs NAME
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import json
import locale
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import warnings
from typing import Any

#: Variables that configure the host's own Celery app or Django.
HOST_VARIABLES = ("CELERY_", "DJANGO_")


def process_state() -> dict[str, str]:
    """Return everything that a library might change in the process of its caller."""
    state: dict[str, Any] = {
        "signals": [str(signal.getsignal(n)) for n in signal.valid_signals() if n not in (9, 19)],
        "environment": dict(os.environ),
        "log": [
            *(logging.root.level, logging.root.handlers[:], logging.root.disabled),
            *(vars(logging)["_srcfile"], logging.getLoggerClass(), logging.raiseExceptions),
        ],
        "warnings": [str(each) for each in warnings.filters],
        "showwarning": warnings.showwarning,
        "frozen": gc.get_freeze_count(),
        "collector": [gc.isenabled(), gc.get_threshold(), gc.callbacks[:]],
        "path": sys.path[:],
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook],
        "faulthandler": faulthandler.is_enabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "threads": threading.active_count(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "socket timeout": socket.getdefaulttimeout(),
        "recursion": sys.getrecursionlimit(),
        "loop policy": type(asyncio.get_event_loop_policy()),
        "directory": os.getcwd(),  # noqa: PTH109
        "streams": [sys.stdout, sys.stderr],
    }
    return {name: repr(each) for name, each in state.items()}


def import_modules(*names: str) -> dict[str, Any]:
    """Import modules; return what that has changed."""
    before = process_state()
    for name in names:
        importlib.import_module(name)
    return _changes(before)


def import_reranker() -> dict[str, Any]:
    """Import the reranker without a queue; return what it changed beyond what its libraries did."""
    for name in ("torch", "sentence_transformers"):
        importlib.import_module(name)
    gc.unfreeze()  # in a fork, whose server has frozen its objects
    return import_modules("worker.reranker", "worker.engine.fast_engine", "worker.pipeline")


def use_clients() -> dict[str, Any]:
    """Use both clients, and close them; return what that has changed."""
    before = process_state()
    from producer import AsyncRerankClient, RerankClient

    with RerankClient() as client:
        client.submit("a query", ["a document"])
        client.status()

    async def use() -> None:
        async with AsyncRerankClient() as client:
            await client.submit("a query", ["a document"])
            await client.status()

    asyncio.run(use())
    return _changes(before)


def submit_within_a_task() -> dict[str, Any]:
    """Submit from a task of the host's own Celery app, which the variables would break."""
    variables = {name: os.environ[name] for name in os.environ if name.startswith(HOST_VARIABLES)}
    for name in variables:
        del os.environ[name]
    import kombu.pools
    from celery import Celery, current_app

    app = Celery("host", broker="memory://", backend="cache+memory://")
    app.conf.update(task_always_eager=True, broker_pool_limit=77, task_serializer="json")

    @app.task  # type: ignore[untyped-decorator]
    def own() -> str:
        from producer import RerankClient

        with RerankClient() as client:
            return client.submit("a query", ["a document"], job_id="from-host")

    app.finalize()
    app.pool.limit  # noqa: B018  # kombu's pools take the limit of the first app that uses them

    def configuration() -> tuple[dict[str, Any], list[str], int]:
        return dict(app.conf.table()), sorted(app.tasks), kombu.pools.get_limit()

    before = configuration()
    os.environ.update(variables)
    result = own.apply()
    for name in variables:
        del os.environ[name]
    return {
        "current": current_app._get_current_object() is app,
        "same": before == configuration(),
        "result": result.get(),
        "children": len(result.children or ()),
    }


def _changes(before: dict[str, str]) -> dict[str, Any]:
    after = process_state()
    return {name: [before[name], after[name]] for name in before if before[name] != after[name]}


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    print(json.dumps(globals()[program](*arguments)))  # noqa: T201
