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
    help="Print the lines of --results (jsonl), or those of a run (trec).",
)
@click.pass_obj
def partial(settings: Settings, output: str, format_name: str) -> None:
    """Print the finished queries of `rescore --output OUTPUT` before the run is complete.

    Queries are printed in the order in which they were scored. With jsonl, failed queries are
    printed too.
    """
    write = FORMATS[format_name]
    for line in partial_results.lines(output):
        terminal.print_data(write(line).decode())
