"""Define `rerankq status`, which shows the service, and `rerankq metrics`, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import click
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from contract import errors
from contract.printable import visible
from contract.settings import Settings
from producer.cli import batch_report, common, status_report, terminal
from producer.client.blocking import RerankClient


@click.command(epilog=common.EPILOG)
@click.argument("job_id", required=False)
@common.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.option("--batches", is_flag=True, help="List runs and batches, with the time left.")
@common.option("--watch", is_flag=True, help="Refresh until Ctrl-C, and show rates.")
@common.option(
    "--interval",
    type=common.Seconds(0.1),
    metavar="SECONDS",
    default=2.0,
    help="Time between two refreshes, with --watch.",
)
@click.pass_obj
def status(
    settings: Settings,
    job_id: str | None,
    as_json: bool,
    batches: bool,
    watch: bool,
    interval: float,
) -> None:
    """Show the status of the service, of a job, or of a batch.

    With --watch, pairs/s and tokens/s are rates since the last refresh. Otherwise, they are the
    mean speed of one worker process while it scores.
    """
    if job_id and (watch or batches):
        option = "--watch" if watch else "--batches"
        raise errors.InvalidInput(f"{option} cannot be combined with a job id")
    with RerankClient(settings) as client:
        if watch:
            with suppress(KeyboardInterrupt):
                if batches:
                    _watch_batches(client, interval, as_json)
                else:
                    _watch(client, interval, as_json)
            return
        if batches:
            _print_batches(client, as_json)
        elif as_json:
            found = client.status(job_id) if job_id else client.status()
            terminal.print_json(found.model_dump_json())
        elif job_id:
            terminal.render(_job_or_batch(client, job_id))
        else:
            terminal.render(status_report.service_report(_snapshot(client)))


@click.command(epilog=common.EPILOG)
@common.option("--serve", is_flag=True, help="Serve the metrics at /metrics until Ctrl-C.")
@common.option(
    "--address", default="127.0.0.1", metavar="HOST", help="Address to listen on, with --serve."
)
@common.option(
    "--port",
    type=common.Count(maximum=65_535),
    default=9808,
    metavar="PORT",
    help="Port to listen on, with --serve.",
)
@click.pass_obj
def metrics(settings: Settings, serve: bool, address: str, port: int) -> None:
    """Print or serve metrics for Prometheus.

    The metrics cover all workers. Flower serves other metrics at its own /metrics.
    """
    # Imported here, because prometheus-client is only installed with the extra `monitor`.
    from producer.monitoring import prometheus

    with RerankClient(settings) as client:
        if not serve:
            terminal.print_data(prometheus.exposition(client.status))
            return
        try:
            _, thread = prometheus.serve(client.status, address, port)
        except OSError as error:
            raise errors.RerankError(
                f"cannot listen on {address}:{port} ({error.strerror}); choose another --port"
            ) from error
        terminal.print_notice(f"serving metrics at http://{address}:{port}/metrics")
        with suppress(KeyboardInterrupt):
            thread.join()


def _job_or_batch(client: RerankClient, job_id: str) -> RenderableType:
    """Return a report on a job or on a batch. Raises `JobNotFound`."""
    try:
        batch = client.batch(job_id)
    except errors.InvalidInput:
        return status_report.job_report(client.status(job_id))
    return batch_report.batch_report(batch.progress())


def _print_batches(client: RerankClient, as_json: bool) -> None:
    runs, batches = client.runs(), client.batches()
    if as_json:
        terminal.print_json(batch_report.as_json(runs, batches))
    elif runs or batches:
        terminal.render(batch_report.overview(runs, batches))
    else:
        terminal.print_notice("no runs and no batches")


def _watch_batches(client: RerankClient, interval_s: float, as_json: bool) -> None:
    console = terminal.console()
    if as_json or not console.is_terminal:
        while True:
            _print_batches(client, as_json)
            time.sleep(interval_s)
    shown: RenderableType = batch_report.overview(client.runs(), client.batches())
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(shown, refresh=True)
            time.sleep(interval_s)
            try:
                shown = batch_report.overview(client.runs(), client.batches())
            except errors.RedisUnavailable as error:
                shown = Text(visible(f"Error: {error}"), style="red", overflow="fold")


def _snapshot(client: RerankClient) -> status_report.Snapshot:
    return status_report.Snapshot(client.status(), time.monotonic())


def _watch(client: RerankClient, interval_s: float, as_json: bool) -> None:
    console = terminal.console()
    if as_json or not console.is_terminal:
        for now, before, trouble in _snapshots(client, interval_s):
            if trouble:
                terminal.print_notice(trouble)
            elif as_json:
                terminal.print_json(now.status.model_dump_json())
            else:
                console.print(status_report.service_report(now, before))
    with Live(console=console, auto_refresh=False) as live:
        for now, before, trouble in _snapshots(client, interval_s):
            live.update(status_report.service_report(now, before, trouble), refresh=True)


def _snapshots(
    client: RerankClient, interval_s: float
) -> Iterator[tuple[status_report.Snapshot, status_report.Snapshot | None, str]]:
    """Yield a snapshot per interval with the previous one; after an error, the last and the reason.

    It never ends. Raises `RedisUnavailable` if there is no first snapshot.
    """
    now, before, trouble = _snapshot(client), None, ""
    while True:
        yield now, before, trouble
        time.sleep(interval_s)
        try:
            now, before, trouble = _snapshot(client), now, ""
        except errors.RedisUnavailable as error:
            trouble = f"Error: {error}"
