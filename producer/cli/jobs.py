"""Define `rerankq submit`, `result` and `cancel`, for single jobs."""

from __future__ import annotations

import json

import click

from contract import errors, jobs, names
from contract.passages import Aggregate, Passage
from contract.printable import counted
from contract.settings import Settings
from producer.cli import common, passage_options, terminal
from producer.client.blocking import RerankClient
from producer.client.waiting import REPORT_INTERVAL_S, Deadline
from producer.files import conflicts
from producer.formats.documents import read_documents

#: Waits up to this long are not explained.
QUIET_S = 1.0


@click.command(epilog=common.EPILOG)
@common.option("--query", required=True, help="Query to rank the documents by.")
@common.option(
    "--documents",
    required=True,
    metavar="FILE|-",
    help='JSONL with "id" and "text", or one text per line; - reads standard input.',
)
@common.option(
    "--top-k",
    type=common.Count(),
    metavar="K",
    help="Return only the best K documents. [default: all]",
)
@common.model_option
@common.downgrade_option
@passage_options.options
@common.option(
    "--job-id",
    metavar="ID",
    help="Job id of your choice. Submitting it again does not score it again.",
)
@common.option(
    "--priority",
    type=common.Count(0, 9),
    default=names.PRIORITY_SINGLE,
    metavar="N",
    help="Priority from 0 (first) to 9 (last).",
)
@common.option(
    "--wait",
    type=common.Seconds(),
    metavar="SECONDS",
    help="Wait this long for the result, and print it.",
)
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def submit(
    settings: Settings,
    query: str,
    documents: str,
    top_k: int | None,
    model: str | None,
    no_downgrade: bool,
    passages: int | None,
    stride: int | None,
    aggregate: Aggregate | None,
    job_id: str | None,
    priority: int,
    wait: float | None,
    as_json: bool,
) -> None:
    """Submit a query with its documents, and print the job id.

    With --wait, the command waits for the result and prints the ranking.
    """
    conflicts.check(
        [*conflicts.input_uses("--documents", documents)],
        [conflicts.FileUse("standard output", "", 1)],
    )
    how = passage_options.passages(passages, stride, aggregate)
    given = read_documents(documents)
    with RerankClient(settings) as client:
        job_id = client.submit(
            query,
            given,
            top_k=top_k,
            model=model,
            job_id=job_id,
            allow_downgrade=not no_downgrade,
            priority=priority,
            passages=how,
        )
        if wait is not None:
            texts = {
                str(place) if isinstance(each, str) else str(each.get("id", place)): (
                    each if isinstance(each, str) else each["text"]
                )
                for place, each in enumerate(given)
            }
            # Print the id first, so that the job can be found if the wait ends early.
            terminal.print_notice(f"job {job_id}")
            _show_result(client, job_id, wait, as_json, texts)
        elif as_json:
            terminal.print_json(json.dumps({"job_id": job_id}))
        else:
            terminal.print_line(job_id)


@click.command(epilog=common.EPILOG)
@click.argument("job_id")
@common.option(
    "--wait",
    type=common.Seconds(),
    metavar="SECONDS",
    default=0.0,
    help="Wait this long for the result.",
)
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def result(settings: Settings, job_id: str, wait: float, as_json: bool) -> None:
    """Print the ranking of a job."""
    with RerankClient(settings) as client:
        _show_result(client, job_id, wait, as_json, {})


@click.command(epilog=common.EPILOG)
@click.argument("job_id")
@click.pass_obj
def cancel(settings: Settings, job_id: str) -> None:
    """Cancel a job.

    A job that is waiting is never scored. The scores of a running job are discarded.
    """
    with RerankClient(settings) as client:
        if not client.cancel(job_id):
            state = client.status(job_id).state
            raise errors.InvalidInput(f"job {job_id} has already ended ({state})")
    terminal.print_line(f"cancelled {job_id}")


def _await(client: RerankClient, job_id: str, wait_s: float) -> jobs.JobResult:
    """Return the job's result. Raises the errors of `RerankClient.result`."""
    deadline = Deadline(wait_s, terminal.print_notice)
    quiet_s = QUIET_S
    while True:
        try:
            return client.result(job_id, timeout=min(deadline.remaining_s, quiet_s))
        except errors.ResultTimeout:
            state = client.status(job_id).state
            if deadline.expired:
                raise errors.ResultTimeout(
                    f"job {job_id} is still {state} after {wait_s:g} s"
                ) from None
            deadline.explain(f"job {job_id} is {state}")
            quiet_s = REPORT_INTERVAL_S


def _show_result(
    client: RerankClient, job_id: str, wait: float, as_json: bool, texts: dict[str, str]
) -> None:
    try:
        found = _await(client, job_id, wait)
    except errors.JobFailed as error:
        if as_json:
            terminal.print_json(error.failure.model_dump_json())
        raise
    except errors.ResultTimeout as error:
        if not client.workers():
            raise errors.NoWorker(f"{error}, and no worker answers; start a worker") from error
        raise
    if as_json:
        terminal.print_json(found.model_dump_json())
        return
    columns = [
        terminal.Column("rank", right=True),
        terminal.Column("score", right=True),
        terminal.Column("relevance", right=True),
        terminal.Column("document"),
        *([terminal.Column("passage")] if found.provenance.passages else []),
        *([terminal.Column("text", truncate=True)] if texts else []),
    ]
    for ranking in found.rankings:
        rows = [
            (str(each.rank), f"{each.score:.4f}", f"{each.relevance:.4f}", each.id)
            + ((_place(each.passage),) if found.provenance.passages else ())
            + ((texts.get(each.id, ""),) if texts else ())
            for each in ranking.documents
        ]
        terminal.render(terminal.DataTable(columns, rows, title=ranking.query_id or ""))
    made = found.provenance
    downgraded = f", downgraded ({made.reason})" if made.downgraded else ""
    truncated = f", {made.truncated:,} truncated to {made.max_length} tokens"
    terminal.print_notice(
        f"scored {counted(made.pairs, 'pair')} in {made.seconds:.3f} s by {made.model}{downgraded}"
        f"{truncated if made.truncated else ''}"
    )


def _place(passage: Passage | None) -> str:
    """Return which passage a score is from, and its characters."""
    if passage is None or passage.count == 1:
        return ""
    return f"{passage.index + 1}/{passage.count}, {passage.begin}-{passage.end}"
