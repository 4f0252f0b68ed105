"""Dead letters: failed jobs whose payload is kept, to be looked at, tried again, or given up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

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
    rows = [_row(letter) for letter in letters]
    table = Table(box=None)
    for place, (name, side) in enumerate(_COLUMNS):
        # An id that is cut short is of no use: only the message gives way.
        needed = max(len(row[place]) for row in rows) if name != "message" else None
        table.add_column(name, justify=side, no_wrap=True, min_width=needed)
    for row in rows:
        table.add_row(*map(Text, row))
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
    with RerankClient(settings) as client:
        for job_id in _chosen(client, job_ids, all_of_them, payload_kept=True):
            client.retry(job_id, model=model)
            click.echo(job_id)


@dead.command(epilog=common.EPILOG)
@click.argument("job_ids", nargs=-1)
@common.option("--all", "all_of_them", is_flag=True, help="All dead letters.")
@click.pass_obj
def drop(settings: Settings, job_ids: tuple[str, ...], all_of_them: bool) -> None:
    """Give up dead letters and remove what is kept of them; they stay failed."""
    with RerankClient(settings) as client:
        for job_id in _chosen(client, job_ids, all_of_them, payload_kept=False):
            client.drop(job_id)
            click.echo(job_id)


def _chosen(
    client: RerankClient, job_ids: tuple[str, ...], all_of_them: bool, *, payload_kept: bool
) -> list[str]:
    """The ids that were given, or all (of those that can be tried again)."""
    if bool(job_ids) == all_of_them:
        raise errors.InvalidInput("give the ids of dead letters, or --all")
    if job_ids:
        return list(job_ids)
    letters = client.dead_letters()
    return [letter.job_id for letter in letters if letter.payload_kept or not payload_kept]


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("job", "left"),
    ("failed", "left"),
    ("code", "left"),
    ("attempts", "right"),
    ("killed", "right"),
    ("pairs", "right"),
    ("message", "left"),
)


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
