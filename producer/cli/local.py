"""Define `rerankq up` and `rerankq demo`: the whole service on this machine, without Docker."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click

from contract import errors
from contract.settings import Settings
from producer.cli import common, terminal
from producer.cli.local_stack import LocalStack
from producer.cli.loopback import free_port
from producer.cli.rescore import rescore
from producer.formats.qrels import read_qrels
from producer.formats.records import InvalidLines


@click.command(epilog=common.EPILOG)
@common.option(
    "--model", metavar="MODEL", help="The worker's model. [default: CROSS_ENCODER_MODEL]"
)
@common.option(
    "--concurrency",
    type=common.Count(maximum=1_024),
    metavar="N",
    help="Number of worker processes. [default: auto]",
)
@common.option(
    "--redis-port",
    type=common.Count(maximum=65_535),
    default=6379,
    metavar="PORT",
    help="Port of Redis on 127.0.0.1.",
)
@common.option(
    "--flower-port",
    type=common.Count(maximum=65_535),
    default=5555,
    metavar="PORT",
    help="Port of Flower on 127.0.0.1.",
)
@click.pass_obj
def up(
    settings: Settings,
    model: str | None,
    concurrency: int | None,
    redis_port: int,
    flower_port: int,
) -> None:
    """Run Redis, a worker and Flower on this machine until Ctrl-C.

    Redis is embedded, keeps its data in memory only, and listens on 127.0.0.1.
    """
    _treat_sigterm_as_interrupt()
    with (
        tempfile.TemporaryDirectory(prefix="rerankq-") as logs,
        LocalStack(
            settings,
            Path(logs),
            model,
            concurrency,
            redis_port,
            flower_port,
            say=terminal.print_line,
        ) as stack,
    ):
        terminal.print_line('Try: rerankq submit --query "a query" --documents FILE --wait 10')
        terminal.print_line("Press Ctrl-C to stop.")
        _wait_for_interrupt(stack)
        terminal.print_line("stopping")


@click.command(epilog=common.EPILOG)
@common.option(
    "--keep", metavar="DIR", help="Keep the reranked run and the results in this directory."
)
@click.pass_context
def demo(ctx: click.Context, keep: str | None) -> None:
    """Re-score a sample collection on this machine.

    The command starts an embedded Redis, a worker with the bundled model, and Flower. It stops
    them when the run is complete.
    """
    _treat_sigterm_as_interrupt()
    sample = _sample()
    with tempfile.TemporaryDirectory(prefix="rerankq-") as scratch:
        folder = Path(keep) if keep else Path(scratch)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise errors.InvalidInput(f"--keep {keep}: {error.strerror}") from error
        with LocalStack(
            Settings.load(),
            Path(scratch),
            model="bundled",
            concurrency=None,
            redis_port=free_port(),
            flower_port=free_port(),
            say=terminal.print_line,
        ) as stack:
            ctx.obj = stack.settings
            results = folder / "results.jsonl"
            ctx.invoke(
                rescore,
                corpus=str(sample / "corpus.jsonl"),
                queries=str(sample / "queries.jsonl"),
                run=str(sample / "bm25.trec"),
                qrels=str(sample / "qrels.tsv"),
                output=str(folder / "reranked.trec"),
                results=str(results),
            )
            _show_examples(sample, results)
            if not keep:
                terminal.print_line("")
                terminal.print_line("The output was temporary; to keep it, pass --keep DIR.")
            terminal.print_line("stopping")


def _wait_for_interrupt(stack: LocalStack) -> None:
    """Return on Ctrl-C or SIGTERM; raise if a service ends by itself."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(1.0)
            stack.check()


def _treat_sigterm_as_interrupt() -> None:
    """Stop the services on SIGTERM as on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _sample() -> Path:
    """Return the folder of the sample collection, in the checkout or the installation."""
    package = Path(__file__).parents[1]
    for folder in (package.parent / "examples" / "packages", package / "sample"):
        if (folder / "corpus.jsonl").is_file():
            return folder
    raise errors.InvalidInput(f"{package}: the sample collection is missing; reinstall rerankq")


def _show_examples(sample: Path, results: Path, queries: int = 4, documents: int = 3) -> None:
    """Print the best documents of a few queries: the start of each text, with * for relevant."""
    texts = _texts(sample / "corpus.jsonl")
    judged = read_qrels(str(sample / "qrels.tsv"), InvalidLines())
    answers = {(line.query_id, line.document_id) for _, line in judged}
    questions = _texts(sample / "queries.jsonl")
    terminal.print_line("")
    terminal.print_line(
        f"Top {documents} for {queries} queries. (was N) is the first-stage rank, and * marks a"
        " relevant document."
    )
    with results.open() as lines:
        for line, _ in zip(lines, range(queries), strict=False):
            ranking = json.loads(line)
            terminal.print_line("")
            terminal.print_line(f"{questions[ranking['query_id']]}")
            for document in ranking["documents"][:documents]:
                name, was = document["id"], document["index"] + 1
                mark = "*" if (ranking["query_id"], name) in answers else " "
                terminal.print_line(
                    f" {mark}{document['rank']}. (was {was:2}) {document['score']:6.2f}"
                    f"  {name}: {texts[name][:60]}"
                )


def _texts(path: Path) -> dict[str, str]:
    with path.open() as lines:
        return {data["_id"]: data["text"] for data in map(json.loads, lines)}
