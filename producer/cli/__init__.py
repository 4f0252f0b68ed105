"""The command line `rerankq`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from contract import environment
from contract.settings import Settings
from producer.cli import (
    celery_commands,
    common,
    compare,
    dead,
    jobs,
    local,
    rescore,
    serve,
    status,
    terminal,
)


@click.group(
    cls=common.Group,
    epilog=common.EPILOG,
    context_settings={
        "auto_envvar_prefix": "RERANKQ",
        "show_default": True,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@common.option(
    "--redis-url", metavar="URL", help="Redis server. [default: redis://127.0.0.1:6379/0]"
)
@common.option(
    "--namespace", metavar="NAME", help="Prefix of all keys in Redis. [default: rerankq]"
)
@click.version_option(package_name="rerankq")
@click.pass_context
def main(ctx: click.Context, redis_url: str | None, namespace: str | None) -> None:
    """Rerank search results in batches: queue jobs on Redis, and score them on workers.

    \b
    Try it on this machine:  rerankq demo
    Run a local service:     rerankq up --model bundled
    Re-score a TREC run:     rerankq rescore --corpus corpus.jsonl \\
                                 --queries queries.jsonl --run first.trec \\
                                 --output reranked.trec
    """
    if ctx.invoked_subcommand in (celery_commands.worker.name, celery_commands.flower.name):
        return  # that process reads and checks all settings itself
    known = map(environment.variable, Settings.model_fields)
    for warning in environment.unknown_variables(
        os.environ, (*known, *_variables(main, environment.PREFIX))
    ):
        terminal.print_notice(f"Warning: {warning}")
    ctx.obj = Settings.load(redis_url=redis_url, namespace=namespace)


def _variables(command: click.Command, prefix: str) -> Iterator[str]:
    """Yield the variables of the options of a command and of its subcommands."""
    for param in command.params:
        if isinstance(param, click.Option):
            yield f"{prefix}{param.name}".upper()
    for name, each in getattr(command, "commands", {}).items():
        yield from _variables(each, f"{prefix}{name}_".replace("-", "_"))


for command in (
    jobs.submit,
    jobs.result,
    status.status,
    status.metrics,
    jobs.cancel,
    dead.dead,
    rescore.rescore,
    compare.compare,
    serve.serve,
    celery_commands.worker,
    celery_commands.flower,
    local.up,
    local.demo,
):
    main.add_command(command)
