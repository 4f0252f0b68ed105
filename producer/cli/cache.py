"""Define `rerankq cache`, which measures and prunes a file of cached scores."""

from __future__ import annotations

import json
import re
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from contract import errors
from contract.models import short_name, short_revision
from contract.printable import counted
from producer.cli import common, terminal
from producer.score_cache.cache import DAY_S
from producer.score_cache.maintenance import CacheStats, IdentityUse, Maintenance, Pruned

_DAYS = {"d": 1, "w": 7}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
#: Characters of a prompt in a table.
PROMPT_CHARS = 40

file_argument = click.argument("file", metavar="FILE", envvar="RERANKQ_CACHE")


class Days(click.ParamType[int]):
    """A number of days or weeks, such as `30d` or `4w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"([0-9]{1,5})([dw])", str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is not a number of days or weeks, such as 30d or 4w", param, ctx)
        return int(found[1]) * _DAYS[found[2]]


class Bytes(click.ParamType[int]):
    """A size, such as `2GB` or `500MiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([A-Za-z]+)", str(value))
        units = {unit.lower(): size for unit, size in _BYTES.items()}
        if found is None or found[2].lower() not in units:
            self.fail(f"{value!r} is not a size, such as 2GB or 500MiB", param, ctx)
        return round(float(found[1]) * units[found[2].lower()])


@click.group(epilog=common.EPILOG)
def cache() -> None:
    """Measure and prune a file of cached scores: see `rerankq rescore --cache`."""


@cache.command(epilog=common.EPILOG)
@file_argument
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(file: str, as_json: bool) -> None:
    """Show the size of a cache, and the models that its scores come from."""
    with _opened(file) as opened:
        found = opened.stats()
    if as_json:
        terminal.print_json(json.dumps(_as_json(file, found)))
        return
    overview = [
        ("file", file),
        ("size", f"{found.bytes / 1e6:,.1f} MB"),
        ("pairs", f"{found.pairs:,}"),
    ]
    terminal.render(terminal.name_value_table(overview))
    if found.identities:
        rows = [_row(each) for each in found.identities]
        terminal.render(terminal.DataTable(_COLUMNS, rows))


@cache.command(epilog=common.EPILOG)
@file_argument
@common.option(
    "--older-than",
    type=Days(),
    metavar="DAYS",
    help="Remove the scores that were not used for this long, such as 30d or 4w.",
)
@common.option(
    "--max-size",
    type=Bytes(),
    metavar="SIZE",
    help="Remove the least recently used scores until the file is at most this large, such as 2GB.",
)
def prune(file: str, older_than: int | None, max_size: int | None) -> None:
    """Remove scores that have not been used lately, and make the file smaller."""
    if older_than is None and max_size is None:
        raise errors.InvalidInput("pass --older-than, --max-size, or both")
    with _opened(file) as opened:
        pruned = opened.prune(older_than, max_size)
    _print_pruned(file, pruned)
    if pruned.not_shrunk:
        raise errors.CacheNotWritable(
            f"scores were removed, but the file could not be made smaller: {pruned.not_shrunk};"
            " run the same command again later"
        )


def _print_pruned(file: str, pruned: Pruned) -> None:
    if pruned.from_future:
        terminal.print_notice(
            f"{counted(pruned.from_future, 'score')} last used in the future, after the clock was"
            " wrong; taken as used today"
        )
    terminal.print_notice(
        f"{file}: removed {counted(pruned.pairs, 'score')}, {pruned.pairs_left:,} left;"
        f" {pruned.bytes_before / 1e6:,.1f} MB before, {pruned.bytes_after / 1e6:,.1f} MB now"
    )


def _opened(file: str) -> Maintenance:
    return Maintenance(Path(file), int(time.time() // DAY_S))


_COLUMNS = (
    terminal.Column("model", truncate=True),
    terminal.Column("revision"),
    terminal.Column("scored with"),
    terminal.Column("max length", right=True),
    terminal.Column("passages"),
    terminal.Column("prompt", truncate=True),
    terminal.Column("code", right=True),
    terminal.Column("pairs", right=True),
    terminal.Column("last used"),
)


def _row(use: IdentityUse) -> list[str]:
    identity = use.identity
    return [
        short_name(identity.model),
        short_revision(identity.revision or ""),
        f"{identity.backend} {identity.device} {identity.dtype}",
        str(identity.max_length),
        identity.passages or "",
        textwrap.shorten(identity.prompt or "", PROMPT_CHARS, placeholder=" ..."),
        str(identity.version),
        f"{use.pairs:,}",
        _date(use.last_used),
    ]


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


def _as_json(file: str, found: CacheStats) -> dict[str, Any]:
    return {
        "file": file,
        "bytes": found.bytes,
        "pairs": found.pairs,
        "identities": [
            each.identity.model_dump() | {"pairs": each.pairs, "last_used": _date(each.last_used)}
            for each in found.identities
        ],
    }
