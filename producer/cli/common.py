"""What all commands share: options with environment variables, exit codes, errors in one line."""

from __future__ import annotations

import sqlite3
import sys
from functools import partial
from typing import Any

import click

from contract import errors

#: An option whose help names its environment variable.
option = partial(click.option, show_envvar=True)

downgrade_option = option(
    "--no-downgrade", is_flag=True, help="Fail, rather than be scored by a smaller model."
)

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_PARTIAL = 3
EXIT_NO_REDIS = 4
EXIT_NO_WORKER = 5
EXIT_TIMEOUT = 6
EXIT_NOT_FOUND = 7
EXIT_OVERLOADED = 8
EXIT_INTERRUPTED = 130

#: The first kind that fits gives the code; bad usage shares its code with bad input.
_EXITS: tuple[tuple[type[errors.RerankError], int], ...] = (
    (errors.InvalidInput, EXIT_BAD_INPUT),
    (errors.RedisUnavailable, EXIT_NO_REDIS),
    (errors.Overloaded, EXIT_OVERLOADED),
    (errors.NoWorker, EXIT_NO_WORKER),
    (errors.ResultTimeout, EXIT_TIMEOUT),
    (errors.JobNotFound, EXIT_NOT_FOUND),
    (errors.RerankError, EXIT_FAILED),
)

#: Stands at the end of each command's help.
EPILOG = f"""\b
Exit codes:
  0    all done
  {EXIT_FAILED}    the job failed or was cancelled; of a re-scoring, every query failed
  {EXIT_BAD_INPUT}    bad input or usage; nothing was sent
  {EXIT_PARTIAL}    partial success: some queries failed, what is written or shown is of the others
  {EXIT_NO_REDIS}    Redis is unreachable, full, or refuses
  {EXIT_NO_WORKER}    no worker answers
  {EXIT_TIMEOUT}    no result within --wait or --max-wait; jobs go on, and a run can be resumed
  {EXIT_NOT_FOUND}    no such job
  {EXIT_OVERLOADED}    not accepted: the queue or Redis' memory is nearly full; try again later
  {EXIT_INTERRUPTED}  interrupted
"""


class Group(click.Group):
    """Turns errors of rerankq into one line on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.RerankError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(next(code for kind, code in _EXITS if isinstance(error, kind)))
        except BrokenPipeError:
            sys.stderr.close()  # or Python would complain again at its end
            ctx.exit(EXIT_FAILED)
        except (OSError, sqlite3.Error) as error:  # a disk that is full, above all
            click.echo(f"Error: {error}", err=True)
            ctx.exit(EXIT_FAILED)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
