"""Define the options that all commands for scoring a run share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from contract.errors import InvalidInput
from producer.cli import common
from producer.client.arguments import check_group
from producer.formats import parquet_records, text_columns, trec_run
from producer.rescore.options import KEEP, MOST_JOBS, Cascade, Options
from producer.rescore.shards import Shard

Command = TypeVar("Command", bound=Callable[..., Any])


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine options into one decorator; `--help` lists them in this order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _columns(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Return the columns that NAME=COLUMN options choose."""
    chosen = {}
    for each in given:
        name, equals, column = each.partition("=")
        if not equals or not column or name not in parquet_records.NAMES:
            raise click.BadParameter(
                f"{each!r} is not NAME=COLUMN; NAME is one of {', '.join(parquet_records.NAMES)}"
            )
        chosen[name] = column
    return chosen


#: The formats that an option's file may be said to have. All others are recognized.
_INPUT_FORMATS = {
    "corpus": text_columns.FORMATS,
    "queries": text_columns.FORMATS,
    "run": trec_run.FORMATS,
}


def _input_formats(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Return the formats that OPTION=FORMAT options choose."""
    chosen = {}
    for each in given:
        option, _, name = each.partition("=")
        if name not in _INPUT_FORMATS.get(option, ()):
            known = (f"{key}={value}" for key, names in _INPUT_FORMATS.items() for value in names)
            raise click.BadParameter(f"{each!r} is not one of {', '.join(known)}")
        chosen[option] = name
    return chosen


#: The input files; `InputFiles.check` rejects invalid combinations.
file_options = options(
    common.option(
        "--corpus", metavar="FILE", help='Documents: BEIR JSONL, "id<TAB>text" or Parquet.'
    ),
    common.option(
        "--queries", metavar="FILE", help='Queries: BEIR JSONL, "id<TAB>text" or Parquet.'
    ),
    common.option("--run", metavar="FILE", help="First-stage run: TREC, MS MARCO or Parquet."),
    common.option(
        "--input",
        "requests",
        metavar="FILE",
        help="JSONL with a query and its candidates per line, instead of the three files above.",
    ),
    common.option(
        "--dataset",
        metavar="ID",
        help="ir_datasets id of a dataset that provides the files that are not given, and --qrels.",
    ),
    common.option(
        "--download",
        is_flag=True,
        help="Allow ir_datasets to download what its cache lacks of the dataset.",
    ),
    common.option(
        "--column",
        metavar="NAME=COLUMN",
        multiple=True,
        callback=_columns,
        help="Column of a Parquet file, such as corpus.text=abstract. [default: by common names]",
    ),
    common.option(
        "--input-format",
        metavar="OPTION=FORMAT",
        multiple=True,
        callback=_input_formats,
        help="Format of a text file, such as run=msmarco. [default: by its content]",
    ),
)
depth_option = common.option(
    "--depth",
    type=common.Count(),
    metavar="N",
    help="Rerank only the best N candidates of each query. [default: all]",
)


def _shard(_context: click.Context, _parameter: click.Parameter, given: str | None) -> Shard | None:
    return None if given is None else Shard.parse(given)


shard_option = common.option(
    "--shard",
    metavar="N/COUNT",
    callback=_shard,
    help="Score only shard N of COUNT, from 1; `rerankq merge` combines the outputs.",
)


def _group(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    check_group(given)
    return given


group_option = common.option(
    "--group",
    metavar="NAME",
    callback=_group,
    help="Group with which the jobs share turns in the queue. [default: RERANKQ_GROUP, or the run"
    " with all its shards]",
)


def _cascade(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> Cascade | None:
    """Parse the value of a MODEL:KEEP option."""
    try:
        return Cascade.parse(given) if given else None
    except InvalidInput as error:
        raise click.BadParameter(str(error)) from error


_cascade_option = partial(common.option, "--cascade", metavar="MODEL[:KEEP]", callback=_cascade)
cascade_option = _cascade_option(
    help="Smaller model that scores all candidates; --model then scores the best KEEP of each query"
    f" again. [default KEEP: {KEEP}]",
)
compared_cascade_option = _cascade_option(
    help="Compare --model alone with a cascade: this smaller model scores all candidates, and"
    f" --model scores the best KEEP of each query again. [default KEEP: {KEEP}]",
)
cache_option = common.option(
    "--cache",
    metavar="FILE",
    envvar="RERANKQ_CACHE",
    help="File of scores from earlier runs, which are not computed again. New scores are added.",
)
#: The options for reading and sending the run.
work_options = options(
    common.option(
        "--window",
        type=common.CountOrAuto(maximum=MOST_JOBS),
        metavar="JOBS",
        help="Maximum number of jobs in flight, or auto. [default: auto, two for each process of"
        " the workers]",
    ),
    common.option(
        "--pairs-per-job",
        type=common.CountOrAuto(),
        metavar="N",
        help="Maximum number of pairs per job, or auto. [default: auto, what a process scores in a"
        " second]",
    ),
    common.option("--skip-invalid", is_flag=True, help="Skip and count invalid lines."),
    common.option(
        "--worker-wait",
        type=common.Seconds(),
        default=Options.worker_wait_s,
        metavar="SECONDS",
        help="Stop if no worker answers for this long.",
    ),
    common.option(
        "--max-wait",
        type=common.Seconds(),
        default=Options.max_wait_s,
        metavar="SECONDS",
        help="Stop after this long without progress: no job was accepted, and none ended.",
    ),
)
