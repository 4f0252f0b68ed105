"""Define `rerankq worker` and `rerankq flower`: Celery's commands, with the app of this package."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from contract.errors import RerankError

#: A file instead of a module name, because another module `worker` may be found first.
ENTRY_POINT = Path(__file__).resolve().parents[2] / "worker" / "__main__.py"
APP = "worker.celery:app"
#: Keeps Python from putting the current folder first on the path, also in child processes.
ENVIRONMENT = {"PYTHONSAFEPATH": "1"}

_CONTEXT_SETTINGS = {"ignore_unknown_options": True}


def command_line(*arguments: str) -> list[str]:
    """Return the command line for a command of Celery; run it with `ENVIRONMENT`."""
    return [sys.executable, str(ENTRY_POINT), "-A", APP, *arguments]


@click.command(add_help_option=False, context_settings=_CONTEXT_SETTINGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def worker(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Run a worker. Accepts all options of `celery worker`."""
    _require("sentence_transformers", "sentence-transformers", "worker")
    _become(ctx, "worker", arguments)


@click.command(add_help_option=False, context_settings=_CONTEXT_SETTINGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def flower(ctx: click.Context, arguments: Sequence[str]) -> None:
    """Run Flower. Accepts all options of `celery flower`."""
    _require("flower", "Flower", "monitor")
    _become(ctx, "flower", arguments)


def _require(module: str, name: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise RerankError(f"{name} is not installed; run `pip install 'rerankq[{extra}]'`")


def _become(ctx: click.Context, command: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process with a command of Celery, under the same process id."""
    given = ctx.parent.params if ctx.parent else {}
    settings = {
        f"RERANKQ_{name.upper()}": given[name]
        for name in ("redis_url", "namespace")
        if given.get(name)
    }
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execve(  # noqa: S606
        sys.executable, command_line(command, *arguments), os.environ | ENVIRONMENT | settings
    )
