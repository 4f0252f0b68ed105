"""Dead letters: failed jobs whose payload is kept, to be looked at, tried again, or given up."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from contract import errors, jobs
from contract.settings import Settings
from producer.cli import common, printing
from producer.client import RerankClient


@click.group(epilog=common.EPILOG)
def dead() -> None:
    """Look at jobs that failed and can be tried again, retry them, or drop them."""


@dead.command("list", epilog=common.EPILOG)
@common.option("--json", "as_json", is_flag=True, help="Print JSON, a line each.")
@common.option("--limit", type=common.Count(), default=1_000, metavar="N", help="Of the last N.")
@click.pass_obj
def list_letters(settings: Settings, as_json: bool, limit: int) -> None:
    """List dead letters, the last first: why each failed, and after how many attempts."""
    with RerankClient(settings) as client:
        letters = client.dead_letters(limit)
    if as_json:
        for letter in letters:
            printing.json(letter.model_dump_json())
        return
    if not letters:
        printing.say("no dead letters")
        return
    printing.render(printing.Rows(_COLUMNS, [_row(letter) for letter in letters]))


@dead.command(epilog=common.EPILOG)
@click.argument("job_id")
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(settings: Settings, job_id: str, as_json: bool) -> None:
    """Show a dead letter whole."""
    with RerankClient(settings) as client:
        letter = client.dead_letter(job_id)
    if as_json:
        printing.json(letter.model_dump_json())
        return
    pairs = [
        ("job", letter.job_id),
        ("code", letter.code),
        ("message", letter.message),
        ("attempts", f"{letter.attempts}, {letter.deaths} of them killed"),
        ("queries", str(letter.requests)),
        ("pairs", str(letter.pairs)),
        ("submitted", _when(letter.submitted_at)),
        ("failed", _when(letter.ended_at)),
        ("payload", "kept" if letter.payload_kept else "not kept: its caller has it"),
    ]
    printing.render(printing.named(pairs))


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
            printing.line(job_id)


@dead.command(epilog=common.EPILOG)
@click.argument("job_ids", nargs=-1)
@common.option("--all", "all_of_them", is_flag=True, help="All dead letters.")
@click.pass_obj
def drop(settings: Settings, job_ids: tuple[str, ...], all_of_them: bool) -> None:
    """Give up dead letters and remove what is kept of them; they stay failed."""
    with RerankClient(settings) as client:
        for job_id in _chosen(client, job_ids, all_of_them, payload_kept=False):
            client.drop(job_id)
            printing.line(job_id)


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


_COLUMNS = (
    printing.Column("job"),
    printing.Column("failed"),
    printing.Column("code"),
    printing.Column("attempts", right=True),
    printing.Column("killed", right=True),
    printing.Column("pairs", right=True),
    printing.Column("message"),
)


def _row(letter: jobs.DeadLetter) -> tuple[str, ...]:
    return (
        letter.job_id,
        _when(letter.ended_at),
        letter.code,
        str(letter.attempts),
        str(letter.deaths),
        f"{letter.pairs:,}",
        letter.message,
    )


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
