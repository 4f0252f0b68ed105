"""Define the options that cut long documents into passages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from contract.errors import InvalidInput
from contract.passages import AGGREGATES, LEAST_TOKENS, Aggregate, Passages
from producer.cli import common

Command = TypeVar("Command", bound=Callable[..., Any])


def options(command: Command) -> Command:
    """Add the options to a command."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


_OPTIONS = (
    common.option(
        "--passages",
        type=common.Count(LEAST_TOKENS, 1_000_000),
        metavar="TOKENS",
        help="Cut long documents into passages of at most this many tokens. [default: truncate]",
    ),
    common.option(
        "--stride",
        type=common.Count(),
        metavar="TOKENS",
        help="Tokens from the start of a passage to the next. [default: half of --passages]",
    ),
    common.option(
        "--aggregate",
        type=click.Choice(AGGREGATES),
        help="Score of a document: its best passage, the mean of the two best, or the first passage"
        " alone. [default: max]",
    ),
)


def passages(
    tokens: int | None, stride: int | None, aggregate: Aggregate | None
) -> Passages | None:
    """Return what the options say; None if documents are truncated. Raises `InvalidInput`."""
    if tokens is None:
        if stride is not None or aggregate is not None:
            raise InvalidInput("--stride and --aggregate have no effect without --passages")
        return None
    given = {"tokens": tokens, "stride": stride, "aggregate": aggregate or AGGREGATES[0]}
    return Passages.parse(given)
