"""Define `rerankq merge`, which puts the outputs of all shards of a run together."""

from __future__ import annotations

import click

from contract.printable import counted
from producer.cli import common, run_report, terminal
from producer.rescore import merge as merging
from producer.rescore import parts as run_parts
from producer.rescore.output_files import OutputFiles


@click.command(epilog=common.EPILOG)
@click.argument("names", metavar="PART...", nargs=-1, required=True)
@common.option("--output", required=True, metavar="FILE", help="Reranked run to write.")
@common.option(
    "--results",
    metavar="FILE",
    help="Results to write, combined from the --results of all shards.",
)
def merge(names: tuple[str, ...], output: str, results: str | None) -> None:
    """Merge the outputs of all shards of a run.

    PART is the --output of a `rerankq rescore --shard`. The merged files are byte-identical to
    those of a single `rerankq rescore` without --shard, and have the format of the parts.
    """
    parts = run_parts.load(names, with_results=results is not None)
    outputs = OutputFiles(output, results, format=parts[0].record.format)
    outputs.check(list(run_parts.uses(parts)))
    merging.check_formats(parts, output, results)
    run_parts.check_contents(parts)
    progress = merging.progress_of(parts)
    with (
        outputs.reserved(terminal.print_notice) as check_reserved,
        outputs.locked() as files,
    ):
        check_reserved()
        merging.write(parts, *files)
    terminal.print_notice(
        f"merged {counted(len(parts), 'shard')} with"
        f" {counted(progress.queries, 'ranked query', 'ranked queries')}; wrote"
        f" {' and '.join(each.name for each in files)}"
    )
    run_report.print_failed(progress)
    if progress.failed_queries:
        raise SystemExit(common.EXIT_PARTIAL if progress.queries else common.EXIT_FAILED)
