"""Define the options that all commands for scoring a run share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from producer.cli import common
from producer.rescore.options import LEAST_PAIRS, MOST_PAIRS, Options

Command = TypeVar("Command", bound=Callable[..., Any])


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine options into one decorator; `--help` lists them in this order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


#: The input files; `InputFiles.check` rejects invalid combinations.
file_options = options(
    common.option("--corpus", metavar="FILE", help='Documents: BEIR JSONL, or "id<TAB>text".'),
    common.option("--queries", metavar="FILE", help='Queries: BEIR JSONL, or "id<TAB>text".'),
    common.option("--run", metavar="FILE", help="First-stage run, in TREC format."),
    common.option(
        "--input",
        "requests",
        metavar="FILE",
        help="In place of these three: JSONL with a query and its candidates in each line.",
    ),
)
depth_option = common.option(
    "--depth", type=common.Count(), metavar="N", help="Rerank the best N. [default: all]"
)
#: The options for reading and sending the run.
work_options = options(
    common.option(
        "--window",
        type=common.Count(maximum=10_000),
        default=8,
        metavar="JOBS",
        help="Jobs in flight.",
    ),
    common.option(
        "--pairs-per-job",
        type=common.Count(),
        metavar="N",
        help=f"Job size. [default: {LEAST_PAIRS} to {MOST_PAIRS}, as the run is long]",
    ),
    common.option("--skip-invalid", is_flag=True, help="Skip and count bad lines; do not stop."),
    common.option(
        "--worker-wait",
        type=common.Seconds(),
        default=Options.worker_wait_s,
        metavar="SECONDS",
        help="Give up if no worker answers for so long.",
    ),
    common.option(
        "--max-wait",
        type=common.Seconds(),
        default=Options.max_wait_s,
        metavar="SECONDS",
        help="Give up if no job is accepted and none ends for so long.",
    ),
)
