"""A program that embeds a client keeps its process, and its own Celery app, as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.settings import Settings
from tests.integration.redis_state import messages
from tests.processes import environment

LOOK = """
import gc, json, locale, logging, multiprocessing, os, signal, socket, sys, threading, warnings
import asyncio, faulthandler

def look():
    return {
        "signals": [str(signal.getsignal(n)) for n in signal.valid_signals() if n not in (9, 19)],
        "environment": dict(os.environ),
        "log": [logging.root.level, logging.root.handlers[:], logging.root.disabled,
                logging._srcfile, logging.getLoggerClass(), logging.raiseExceptions],
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
        "directory": os.getcwd(),
        "streams": [sys.stdout, sys.stderr],
    }

before = look()
"""
TELL = """
after = look()
print(json.dumps({key: [repr(before[key]), repr(after[key])]
                  for key in before if repr(before[key]) != repr(after[key])}))
"""

USE = """
from producer import AsyncRerankClient, RerankClient
with RerankClient() as client:
    client.submit("a query", ["a document"])
    client.status()
async def use():
    async with AsyncRerankClient() as client:
        await client.submit("a query", ["a document"])
        await client.status()
asyncio.run(use())
"""


def told(code: str, settings: Settings | None = None, **variables: str) -> Any:
    """What a fresh interpreter prints after the code, as JSON."""
    if settings is not None:
        variables |= {
            "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
            "RERANKQ_NAMESPACE": settings.namespace,
        }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import producer",
        "from producer import AsyncRerankClient, RerankClient",
        "import producer.monitoring.prometheus, producer.cli",
    ],
)
def test_importing_the_producer_changes_nothing_in_its_process(code: str) -> None:
    assert told(LOOK + code + TELL) == {}


def test_a_client_that_was_used_and_closed_leaves_its_process_as_it_was(
    settings: Settings,
) -> None:
    assert told(LOOK + USE + TELL, settings) == {}


HOST = """
import json, logging
from celery import Celery, current_app
import kombu.pools

app = Celery("host", broker="memory://", backend="cache+memory://")
app.conf.update(task_always_eager=True, broker_pool_limit=77, task_serializer="json")

@app.task
def own():
    return submit()

app.finalize()
app.pool
before = (dict(app.conf.table()), sorted(app.tasks), kombu.pools.get_limit())

def submit():
    from producer import RerankClient
    with RerankClient() as client:
        return client.submit("a query", ["a document"], job_id="from-host")

submit()
result = own.apply()
after = (dict(app.conf.table()), sorted(app.tasks), kombu.pools.get_limit())
print(json.dumps({
    "current": current_app._get_current_object() is app,
    "same": before == after,
    "result": result.get(),
    "children": len(result.children or ()),
}))
"""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
            "CELERY_BROKER_WRITE_URL": "redis://127.0.0.1:1/0",
            "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/0",
            "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0",
            "CELERY_CONFIG_MODULE": "no_such_module_of_the_host",
            "CELERY_LOADER": "no.such.loader:Loader",
            "DJANGO_SETTINGS_MODULE": "no_such_settings",
        },
    ],
    ids=["no variables", "celery's variables"],
)
def test_a_client_inside_a_program_with_a_celery_app_of_its_own_uses_ours_alone(
    variables: dict[str, str], settings: Settings, client: redis.Redis
) -> None:
    """The host's app is made without the variables, which it would not survive itself."""
    code = (
        "import os\nkept = {k: os.environ.pop(k) for k in list(os.environ)"
        " if k.startswith(('CELERY_', 'DJANGO_'))}\n"
        + HOST.replace("def submit():", "os.environ.update(kept)\ndef submit():")
    )
    code = code.replace("after = (", "[os.environ.pop(each) for each in kept]\nafter = (")

    assert told(code, settings, **variables) == {
        "current": True,
        "same": True,
        "result": "from-host",
        "children": 0,
    }
    assert [each.id for each in messages(client, settings)] == ["from-host"]


def test_importing_the_in_process_reranker_changes_no_more_than_its_libraries_do() -> None:
    libraries = "import torch, sentence_transformers\n"
    ours = "import worker.reranker, worker.engine.engines, worker.pipeline\n"

    assert told(LOOK + libraries + ours + TELL) == told(LOOK + libraries + TELL)
