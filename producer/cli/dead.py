"""Dead letters: failed jobs whose payload is kept, to be looked at, tried again, or given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract import errors, jobs
from contract.settings import Settings
from producer.cli import common
from producer.client import RerankClient

MESSAGE_CHARS = 60


@click.group(epilog=common.EPILOG)
def dead() -> None:
    """Look at jobs that failed and can be tried again, retry them, or drop them."""


@dead.command("list", epilog=common.EPILOG)
@common.option("--json", "as_json", is_flag=True, help="Print JSON, a line each.")
@common.option(
    "--limit", type=click.IntRange(min=1), default=1_000, metavar="N", help="Of the last N."
)
@click.pass_obj
def list_letters(settings: Settings, as_json: bool, limit: int) -> None:
    """List dead letters, the last first: why each failed, and after how many attempts."""
    with RerankClient(settings) as client:
        letters = client.dead_letters(limit)
    if as_json:
        for letter in letters:
            click.echo(letter.model_dump_json())
        return
    if not letters:
        click.echo("no dead letters", err=True)
        return
    table = Table(box=None)
    for name in ("job", "failed", "code", "attempts", "killed", "pairs", "message"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for letter in letters:
        table.add_row(*map(Text, _row(letter)))
    Console().print(table)


@dead.command(epilog=common.EPILOG)
@click.argument("job_id")
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(settings: Settings, job_id: str, as_json: bool) -> None:
    """Show a dead letter whole."""
    with RerankClient(settings) as client:
        letter = client.dead_letter(job_id)
    if as_json:
        click.echo(letter.model_dump_json())
        return
    table = Table(show_header=False, box=None)
    for name, value in (
        ("job", letter.job_id),
        ("code", letter.code),
        ("message", letter.message),
        ("attempts", f"{letter.attempts}, {letter.deaths} of them killed"),
        ("queries", str(letter.requests)),
        ("pairs", str(letter.pairs)),
        ("submitted", _when(letter.submitted_at)),
        ("failed", _when(letter.ended_at)),
        ("payload", "kept" if letter.payload_kept else "not kept: its caller has it"),
    ):
        table.add_row(name, Text(value))
    Console().print(table)


@dead.command(epilog=common.EPILOG)
@click.argument("job_ids", nargs=-1)
@common.option("--all", "all_of_them", is_flag=True, help="All dead letters.")
@common.option("--model", metavar="M", help="With another model than it asked for.")
@click.pass_obj
def retry(
    settings: Settings, job_ids: tuple[str, ...], all_of_them: bool, model: str | None
) -> None:
    """Queue dead letters again under their ids, as if they were new."""
    _each(settings, job_ids, all_of_them, lambda client, one: client.retry(one, model=model))


@dead.command(epilog=common.EPILOG)
@click.argument("job_ids", nargs=-1)
@common.option("--all", "all_of_them", is_flag=True, help="All dead letters.")
@click.pass_obj
def drop(settings: Settings, job_ids: tuple[str, ...], all_of_them: bool) -> None:
    """Give up dead letters and remove what is kept of them; they stay failed."""
    _each(settings, job_ids, all_of_them, lambda client, one: client.drop(one))


def _each(
    settings: Settings,
    job_ids: tuple[str, ...],
    all_of_them: bool,
    do: Callable[[RerankClient, str], None],
) -> None:
    if bool(job_ids) == all_of_them:
        raise errors.InvalidInput("give the ids of dead letters, or --all")
    with RerankClient(settings) as client:
        for job_id in job_ids or [letter.job_id for letter in client.dead_letters()]:
            do(client, job_id)
            click.echo(job_id)


_NUMBERS = ("attempts", "killed", "pairs")


def _row(letter: jobs.DeadLetter) -> tuple[str, ...]:
    first_line = letter.message.splitlines()[0] if letter.message else ""
    shown = first_line[:MESSAGE_CHARS] + ("..." if len(first_line) > MESSAGE_CHARS else "")
    return (
        letter.job_id,
        _when(letter.ended_at),
        letter.code,
        str(letter.attempts),
        str(letter.deaths),
        f"{letter.pairs:,}",
        shown,
    )


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
