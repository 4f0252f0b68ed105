"""Share code among all commands: options with variables, exit codes, one-line errors."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

import click

from contract import errors
from producer.cli import terminal


class Option(click.Option):
    """An option whose value is not empty, because a script's unset variable is a mistake."""

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, click.core.ParameterSource]:
        value, source = super().consume_value(ctx, opts)
        if source is click.core.ParameterSource.COMMANDLINE and value == "":
            raise click.BadParameter("must not be empty", ctx, self)
        return value, source


#: An option whose help names its environment variable.
option = partial(click.option, cls=Option, show_envvar=True)

downgrade_option = option(
    "--no-downgrade", is_flag=True, help="Fail instead of falling back to a smaller model."
)
model_option = option(
    "--model", metavar="MODEL", help="Model to score with. [default: the worker's model]"
)

#: More than the lines of any file, and less than the largest integer of a database.
MAX_COUNT = 10**9
MAX_SECONDS = 365 * 24 * 3600

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_PARTIAL = 3
EXIT_NO_REDIS = 4
EXIT_NO_WORKER = 5
EXIT_TIMEOUT = 6
EXIT_NOT_FOUND = 7
EXIT_OVERLOADED = 8
EXIT_INTERRUPTED = 130

#: The first matching class determines the code; bad usage has the code of bad input.
_EXITS: tuple[tuple[type[errors.RerankError], int], ...] = (
    (errors.InvalidInput, EXIT_BAD_INPUT),
    (errors.RedisUnavailable, EXIT_NO_REDIS),
    (errors.Overloaded, EXIT_OVERLOADED),
    (errors.NoWorker, EXIT_NO_WORKER),
    (errors.ResultTimeout, EXIT_TIMEOUT),
    (errors.JobNotFound, EXIT_NOT_FOUND),
    (errors.RerankError, EXIT_FAILED),
)

#: The end of the help of each command.
EPILOG = f"""\b
Exit codes:
  0    success
  {EXIT_FAILED}    the job failed or was cancelled, or all queries of a run failed
  {EXIT_BAD_INPUT}    invalid input or usage; nothing was sent
  {EXIT_PARTIAL}    partial success: some queries or dead letters failed
  {EXIT_NO_REDIS}    Redis is unreachable, full, or refused a command
  {EXIT_NO_WORKER}    no worker answers
  {EXIT_TIMEOUT}    no result within --wait or --max-wait; the jobs continue
  {EXIT_NOT_FOUND}    no such job
  {EXIT_OVERLOADED}    the queue or the memory of Redis is nearly full; try again later
  {EXIT_INTERRUPTED}  interrupted
"""


def exit_code(error: errors.RerankError) -> int:
    """Return the exit code for an error."""
    return next(code for kind, code in _EXITS if isinstance(error, kind))


class Group(click.Group):
    """Turns the errors of rerankq and click into one line on standard error and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command line and end the process."""
        terminal.occupy_closed_streams()
        terminal.tolerate_encodings()
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})
        except (KeyboardInterrupt, click.Abort):
            terminal.print_notice("Interrupted.")
            code = EXIT_INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as help_:
            help_.show()
            code = help_.exit_code
        except click.ClickException as error:
            terminal.print_error(_usage_message(error))
            code = error.exit_code
        except errors.RerankError as error:
            terminal.print_error(error)
            code = exit_code(error)
        except sqlite3.Error as error:
            terminal.print_error(
                f"{tempfile.gettempdir()}: {error} in a temporary file; to use another directory,"
                " set TMPDIR"
            )
            code = EXIT_FAILED
        except OSError as error:  # usually a full disk
            place = f"{error.filename}: " if error.filename else ""
            terminal.print_error(f"{place}{error.strerror or error}")
            code = EXIT_FAILED
        sys.exit(code or 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error
        except BrokenPipeError:
            # The reader has closed the pipe, and flushing the streams at exit would fail.
            devnull = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(devnull, stream)
            ctx.exit(EXIT_FAILED)


def _usage_message(error: click.ClickException) -> str:
    """Return a one-line message about a command line, or about the variable of an option."""
    message = " ".join(error.format_message().split()).rstrip(".")
    ctx = getattr(error, "ctx", None)
    if ctx is None:
        return message
    param = getattr(error, "param", None)
    if (
        isinstance(param, click.Option)
        and param.name
        and ctx.get_parameter_source(param.name) is click.core.ParameterSource.ENVIRONMENT
    ):
        message += f" (from {ctx.auto_envvar_prefix}_{param.name.upper()})"
    return f"{message} (see `{ctx.command_path} --help`)"


class Count(click.types.IntParamType):
    """A whole number as the value of an option; unlike `click.IntRange`, without limits in help."""

    name = "whole number"

    def __init__(self, minimum: int = 1, maximum: int = MAX_COUNT) -> None:
        self._minimum, self._maximum = minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not self._minimum <= number <= self._maximum:
            self.fail(f"{value} is not between {self._minimum} and {self._maximum:,}", param, ctx)
        return number


class CountOrAuto(Count):
    """A whole number, or `auto`, which becomes None."""

    name = "whole number or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


class Seconds(click.types.FloatParamType):
    """A number of seconds as the value of an option."""

    name = "number of seconds"

    def __init__(self, minimum: float = 0) -> None:
        self._minimum = minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not self._minimum <= seconds <= MAX_SECONDS:  # excludes NaN
            self.fail(f"{value} is not between {self._minimum:g} and {MAX_SECONDS:,}", param, ctx)
        return seconds
