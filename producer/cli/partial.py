"""Define `rerankq partial`, which prints the finished queries of an unfinished run."""

from __future__ import annotations

import click

from contract.settings import Settings
from producer.cli import common, terminal
from producer.rescore import journal_lines, partial_results

#: The function that formats a line of the journal, by format.
FORMATS = {"jsonl": journal_lines.result_line, "trec": journal_lines.run_lines}


@click.command(epilog=common.EPILOG)
@click.argument("output", metavar="OUTPUT")
@common.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    default="jsonl",
    help="Lines of --results, or of a TREC run.",
)
@click.pass_obj
def partial(settings: Settings, output: str, format_name: str) -> None:
    """Print the finished queries of `rescore --output OUTPUT` before the run is complete.

    They are in the order in which they were scored. With jsonl, queries that have failed are
    printed too.
    """
    write = FORMATS[format_name]
    for line in partial_results.lines(output):
        terminal.print_data(write(line).decode())
