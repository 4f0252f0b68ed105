"""Define `rerankq dead`, which lists, shows, retries and drops dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import click

from contract import errors, jobs, limits
from contract.printable import counted
from contract.settings import Settings
from producer.cli import common, terminal
from producer.client.blocking import RerankClient
from producer.client.waiting import REPORT_INTERVAL_S


@click.group(epilog=common.EPILOG)
def dead() -> None:
    """Manage dead letters: failed jobs that can be retried."""


@dead.command("list", epilog=common.EPILOG)
@common.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@common.option(
    "--limit", type=common.Count(), default=1_000, metavar="N", help="Show only the newest N."
)
@click.pass_obj
def list_letters(settings: Settings, as_json: bool, limit: int) -> None:
    """List dead letters, newest first."""
    with RerankClient(settings) as client:
        letters = client.dead_letters(limit)
        more = max(0, client.count_dead_letters() - len(letters)) if len(letters) == limit else 0
    if more:
        terminal.print_notice(f"{counted(more, 'older dead letter')} not shown; raise --limit")
    if as_json:
        for letter in letters:
            terminal.print_json(letter.model_dump_json())
        return
    if not letters:
        terminal.print_notice("no dead letters")
        return
    terminal.render(terminal.DataTable(_COLUMNS, [_row(letter) for letter in letters]))


@dead.command(epilog=common.EPILOG)
@click.argument("job_id")
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(settings: Settings, job_id: str, as_json: bool) -> None:
    """Show the details of a dead letter."""
    with RerankClient(settings) as client:
        letter = client.dead_letter(job_id)
    if as_json:
        terminal.print_json(letter.model_dump_json())
        return
    pairs = [
        ("job", letter.job_id),
        ("code", letter.code),
        ("message", letter.message),
        ("attempts", f"{letter.attempts} ({letter.deaths} killed)"),
        ("queries", str(letter.requests)),
        ("pairs", str(letter.pairs)),
        ("submitted", _format_time(letter.submitted_at)),
        ("failed", _format_time(letter.ended_at)),
        ("payload", "kept" if letter.payload_kept else "expired; the job cannot be retried"),
    ]
    terminal.render(terminal.name_value_table(pairs))


@dead.command(epilog=common.EPILOG)
@click.argument("job_ids", nargs=-1)
@common.option("--all", "all_of_them", is_flag=True, help="Retry all dead letters.")
@common.option(
    "--model", metavar="MODEL", help="Score with this model. [default: the model of the job]"
)
@click.pass_obj
def retry(
    settings: Settings, job_ids: tuple[str, ...], all_of_them: bool, model: str | None
) -> None:
    """Queue dead letters again under the same job ids."""
    limits.check_model(model, settings)
    with RerankClient(settings) as client:
        _apply(client, job_ids, all_of_them, "queued again", partial(client.retry, model=model))


@dead.command(epilog=common.EPILOG)
@click.argument("job_ids", nargs=-1)
@common.option("--all", "all_of_them", is_flag=True, help="Drop all dead letters.")
@click.pass_obj
def drop(settings: Settings, job_ids: tuple[str, ...], all_of_them: bool) -> None:
    """Delete dead letters. The jobs stay failed, and can no longer be retried."""
    with RerankClient(settings) as client:
        _apply(client, job_ids, all_of_them, "dropped", client.drop)


def _apply(
    client: RerankClient,
    job_ids: tuple[str, ...],
    all_of_them: bool,
    done: str,
    call: Callable[[str], object],
) -> None:
    """Call `call` with each given id, or with all ids, and print the ids for which it succeeds.

    Continue if one dead letter fails, unless Redis is the cause. Then exit with one exit
    code for all; `done` is the verb of the report.
    """
    if bool(job_ids) == all_of_them:
        raise errors.InvalidInput("pass either job ids or --all")
    total = client.count_dead_letters() if all_of_them else len(job_ids)
    if not total:
        terminal.print_notice("no dead letters")
    chosen = (letter.job_id for letter in client.each_dead_letter()) if all_of_them else job_ids
    run = _BulkRun(total, done)
    try:
        for job_id in chosen:
            run.add(job_id, call)
    finally:
        if total > 1:
            run.report()
    if run.first_error is not None:
        if total == 1:
            raise run.first_error
        raise SystemExit(common.EXIT_PARTIAL if run.done else common.exit_code(run.first_error))


class _BulkRun:
    """Makes a call for many dead letters, and counts and reports the outcomes."""

    def __init__(self, total: int, done_word: str) -> None:
        self.done = self.failed = 0
        self.first_error: errors.RerankError | None = None
        self._total = total
        self._done_word = done_word
        self._reported_at = time.monotonic()

    def add(self, job_id: str, call: Callable[[str], object]) -> None:
        """Make the call. Raises `RedisUnavailable` or `Overloaded`, which end the run."""
        try:
            call(job_id)
        except (errors.RedisUnavailable, errors.Overloaded) as error:
            if job_id not in error.submitted:
                raise
            terminal.print_notice(f"Warning: {error}")
        except errors.RerankError as error:
            self.failed += 1
            self.first_error = self.first_error or error
            if self._total > 1:
                terminal.print_notice(f"{job_id}: {error}")
            return
        self.done += 1
        terminal.print_line(job_id)
        if time.monotonic() - self._reported_at >= REPORT_INTERVAL_S:
            self.report()

    def report(self) -> None:
        """Print the number of successful calls."""
        self._reported_at = time.monotonic()
        failed = f", {self.failed:,} failed" if self.failed else ""
        terminal.print_notice(
            f"{self.done:,} of {self._total:,} dead letters {self._done_word}{failed}"
        )


_COLUMNS = (
    terminal.Column("job"),
    terminal.Column("failed"),
    terminal.Column("code"),
    terminal.Column("attempts", right=True),
    terminal.Column("killed", right=True),
    terminal.Column("pairs", right=True),
    terminal.Column("message"),
)


def _row(letter: jobs.DeadLetter) -> tuple[str, ...]:
    return (
        letter.job_id,
        _format_time(letter.ended_at),
        letter.code,
        str(letter.attempts),
        str(letter.deaths),
        f"{letter.pairs:,}",
        letter.message,
    )


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
