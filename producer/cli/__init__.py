"""The command line `rerankq`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import click

from contract import environment
from contract.settings import Settings
from producer.cli import common, terminal
from producer.cli.lazy_commands import LazyCommands

#: The module of each command.
COMMANDS = {
    "submit": "producer.cli.jobs",
    "result": "producer.cli.jobs",
    "status": "producer.cli.status",
    "metrics": "producer.cli.status",
    "cancel": "producer.cli.jobs",
    "dead": "producer.cli.dead",
    "rescore": "producer.cli.rescore",
    "partial": "producer.cli.partial",
    "merge": "producer.cli.merge",
    "compare": "producer.cli.compare",
    "cache": "producer.cli.cache",
    "serve": "producer.cli.serve",
    "worker": "producer.cli.celery_commands",
    "flower": "producer.cli.celery_commands",
    "up": "producer.cli.local",
    "demo": "producer.cli.local",
}
#: Commands whose process reads and checks all settings itself.
OF_CELERY = ("worker", "flower")


@click.group(
    cls=common.Group,
    commands=LazyCommands(COMMANDS),
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
    if ctx.invoked_subcommand in OF_CELERY:
        return
    for warning in _warnings():
        terminal.print_notice(f"Warning: {warning}")
    ctx.obj = Settings.load(redis_url=redis_url, namespace=namespace)


def _warnings() -> Iterable[str]:
    """Return a line for each unknown variable of this process."""
    known = [environment.variable(name) for name in Settings.model_fields]
    if not any(environment.unknown_variables(os.environ, known)):
        return ()  # most often, so that the variables of options do not have to be imported
    return environment.unknown_variables(
        os.environ, (*known, *_variables(main, environment.PREFIX))
    )


def _variables(command: click.Command, prefix: str) -> Iterator[str]:
    """Yield the variables of the options of a command and of its subcommands."""
    for param in command.params:
        if isinstance(param, click.Option):
            yield f"{prefix}{param.name}".upper()
    for name, each in getattr(command, "commands", {}).items():
        yield from _variables(each, f"{prefix}{name}_".replace("-", "_"))
