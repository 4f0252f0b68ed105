"""Measure how time and peak memory of `rerankq rescore` grow from a thousand pairs upwards.

Run `python -m benchmarks.growth` in the repository's root. Each size uses a fresh Redis and a fresh
worker with two children and the bundled model. It writes growth.json and growth.png. With another
model, `--passages` or `--cache`, it only prints the table.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Self

import click
import redis

from benchmarks import machine, memory, plots
from benchmarks.inputs import copies, write_inputs
from benchmarks.options import RESULTS
from benchmarks.runner import ROOT, Child, last_line, scoring_pairs_per_s
from benchmarks.service import Service
from benchmarks.work import CANDIDATES, Pair
from contract.models import BUNDLED
from producer.rescore.options import job_size
from worker.engine.model_paths import bundled_path

CHILDREN = 2
#: Maximum pairs for the engine alone, because its speed is the same for more.
ALONE_PAIRS = 50_000
QUICK_SIZES = [1_000]
LOG = "rescore.log"
#: Interval between samples of the processes.
SAMPLE_S = 0.1


@dataclass(frozen=True)
class Run:
    """One re-scoring run. Memory values are peaks, in MB of 10^6 bytes."""

    pairs: int
    queries: int
    input_mb: float
    #: Duration of the whole command, including reading and writing files.
    seconds: float
    pairs_per_s: float
    #: The rate that the command itself reports, from the first job to the last result.
    scoring_pairs_per_s: float
    #: The rate without Redis, before and after the command; empty if it was not measured.
    engine_alone_pairs_per_s: tuple[float, ...]
    producer_peak_rss_mb: float
    #: For the child with the highest memory: its peak before the first job, and its overall peak.
    worker_child_ready_rss_mb: float
    worker_child_peak_rss_mb: float
    #: `used_memory_peak`, minus that of an empty server.
    redis_peak_mb: float


@dataclass(frozen=True)
class Setting:
    """Describe what the runs are made with."""

    model: str = BUNDLED
    passages: int | None = None
    cache: bool = False

    def arguments(self, scratch: Path) -> list[str]:
        """Return the options of `rerankq rescore`."""
        arguments = ["--passages", str(self.passages)] if self.passages else []
        return [*arguments, "--cache", str(scratch / "scores.db")] if self.cache else arguments

    def engine_alone(self, pairs: int, threads_each: int, scratch: Path) -> tuple[float, ...]:
        """Return the engine's pairs/s without Redis, if the default setting is measured."""
        return () if self != Setting() else (engines_alone(pairs, threads_each, scratch),)


@dataclass
class Peaks:
    """Peak memory of the producer and the worker's children, sampled in a thread.

    The kernel counts the peak of a process itself, so nothing between two samples is missed. But
    the peak can only be read while the process is alive. Use it in a `with` block.
    """

    producer: int
    children: Callable[[], list[int]]
    producer_mb: float = 0.0
    child_mb: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            # The process may end after it was listed.
            with suppress(ValueError, OSError):
                self.producer_mb = max(self.producer_mb, memory.peak_rss_mb(self.producer))
            with suppress(ValueError, OSError):
                self.child_mb = max(self.child_mb, *map(memory.peak_rss_mb, self.children()))


def engines_alone(pairs: int, threads_each: int, scratch: Path) -> float:
    """Return the engine's pairs/s without Redis, with as many processes and threads as the worker.

    Each process scores its share of the pairs (at most `ALONE_PAIRS` in total) in portions that are
    as large as jobs.
    """
    every = [pair for _, query in copies(min(pairs, ALONE_PAIRS)) for pair in query.pairs]
    each = -(-len(every) // CHILDREN)
    parts = [every[at : at + each] for at in range(0, len(every), each)]
    with ExitStack() as started, ThreadPoolExecutor(CHILDREN) as pool:
        engines = []
        for _ in parts:
            engines.append(Child("rerankq", bundled_path(), threads_each, scratch))
            started.callback(engines[-1].end)
        for engine in engines:
            engine.wait_ready()
        sizes = repeat(job_size(pairs))
        return len(every) / max(pool.map(_portions, engines, parts, sizes))


def _portions(engine: Child, pairs: list[Pair], size: int) -> float:
    portions = (pairs[at : at + size] for at in range(0, len(pairs), size))
    return sum(engine.ask(portion).seconds for portion in portions)


def measure(pairs: int, threads: int, setting: Setting, scratch: Path) -> Run:
    """Re-score about `pairs` pairs with a fresh service."""
    queries = write_inputs(scratch, pairs)
    inputs = [scratch / name for name in ("corpus.jsonl", "queries.jsonl", "run.trec")]
    threads_each = max(1, threads // CHILDREN)
    before = setting.engine_alone(pairs, threads_each, scratch)
    with (
        Service(setting.model, CHILDREN, threads_each, scratch) as service,
        redis.Redis.from_url(service.url) as server,
    ):
        empty_mb = server.info("memory")["used_memory_startup"] / 1e6
        ready_mb = max(map(memory.peak_rss_mb, service.worker_children()))
        began = time.monotonic()
        peaks = _rescore(service, inputs, setting, scratch)
        seconds = time.monotonic() - began
        redis_peak_mb = server.info("memory")["used_memory_peak"] / 1e6 - empty_mb
    return Run(
        pairs=queries * CANDIDATES,
        queries=queries,
        input_mb=sum(path.stat().st_size for path in inputs) / 1e6,
        seconds=seconds,
        pairs_per_s=queries * CANDIDATES / seconds,
        scoring_pairs_per_s=scoring_pairs_per_s(scratch / LOG),
        engine_alone_pairs_per_s=before + setting.engine_alone(pairs, threads_each, scratch),
        producer_peak_rss_mb=peaks.producer_mb,
        worker_child_ready_rss_mb=ready_mb,
        worker_child_peak_rss_mb=peaks.child_mb,
        redis_peak_mb=redis_peak_mb,
    )


def _rescore(service: Service, inputs: list[Path], setting: Setting, scratch: Path) -> Peaks:
    corpus, queries, run = map(str, inputs)
    log = scratch / LOG
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "producer", "rescore"),
                *("--corpus", corpus, "--queries", queries, "--run", run),
                *("--output", str(scratch / "reranked.trec")),
                *setting.arguments(scratch),
            ],
            cwd=ROOT,
            env=service.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with Peaks(process.pid, service.worker_children) as peaks:
            code = process.wait()
    finally:
        process.kill()
        process.wait()
    if code:
        raise RuntimeError(f"rerankq rescore: {last_line(log.read_text()) or f'exit code {code}'}")
    return peaks


def _sizes(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    try:
        sizes = sorted(int(float(each)) for each in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers, such as 1e3,1e4.") from error
    if sizes[0] < 1:
        raise click.BadParameter("all sizes must be at least 1.")
    return sizes


@click.command()
@click.option(
    "--sizes",
    default="1e3,1e4,1e5",
    callback=_sizes,
    show_default=True,
    help="Number of pairs in each run.",
)
@click.option("--quick", is_flag=True, help="Measure only 1,000 pairs, to try the benchmark.")
@click.option("--model", default=BUNDLED, show_default=True, help="For memory alone, use stub.")
@click.option("--passages", type=int, help="Cut documents into passages of this many tokens.")
@click.option("--cache", is_flag=True, help="Keep scores in a cache.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(
    sizes: list[int],
    quick: bool,
    model: str,
    passages: int | None,
    cache: bool,
    threads: int,
    out: Path,
) -> None:
    """Measure runs of growing size, and write growth.json and growth.png."""
    setting = Setting(model, passages, cache)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    runs: list[Run] = []
    for size in QUICK_SIZES if quick else sizes:
        guess = f", about {size / runs[-1].pairs_per_s:.0f} s" if runs else ""
        click.echo(
            f"re-scoring {size:,} pairs{guess}, load average {os.getloadavg()[0]:.1f}", err=True
        )
        with tempfile.TemporaryDirectory(prefix="rerankq-growth-") as scratch:
            runs.append(measure(size, threads, setting, Path(scratch)))
    if setting == Setting():
        _write(runs, threads, out)
    click.echo(table(runs))


def _write(runs: list[Run], threads: int, out: Path) -> None:
    record = {"machine": machine.describe(threads), "runs": [asdict(run) for run in runs]}
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_text(json.dumps(record, indent=1) + "\n")
    plots.growth(record, out / "growth.png")


def table(runs: list[Run]) -> str:
    """Return the runs as a Markdown table."""
    rows = [
        "| pairs | input | time | pairs/s | scoring | engine alone | producer | worker child"
        " | Redis |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {run.pairs:,} | {run.input_mb:,.1f} MB | {run.seconds:,.1f} s | {run.pairs_per_s:,.0f}"
        f" | {run.scoring_pairs_per_s:,.0f}"
        f" | {' and '.join(f'{each:,.0f}' for each in run.engine_alone_pairs_per_s) or '-'}"
        f" | {run.producer_peak_rss_mb:,.0f} MB | {run.worker_child_peak_rss_mb:,.0f} MB"
        f" | {run.redis_peak_mb:,.1f} MB |"
        for run in runs
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
