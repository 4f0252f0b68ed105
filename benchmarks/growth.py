"""How `rerankq rescore` grows: time and peaks of memory for a thousand pairs and up.

`python -m benchmarks.growth`, from the repository's root. Each size has a fresh Redis and worker
with two children, and the bundled model. Writes growth.json and growth.png.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Self

import click
import redis

from benchmarks import machine, memory, plots
from benchmarks.options import RESULTS
from benchmarks.runner import ROOT, last_line
from benchmarks.service import Service
from benchmarks.work import CANDIDATES, KINDS, SAMPLE, Collection
from worker.models import BUNDLED

CHILDREN = 2
#: Between two looks at the processes.
SAMPLE_S = 0.1


@dataclass(frozen=True)
class Run:
    """One re-scoring. Memory in MB of 10^6 bytes, at its peak."""

    pairs: int
    queries: int
    input_mb: float
    #: Of the whole command, reading and writing files included.
    seconds: float
    pairs_per_s: float
    producer_peak_rss_mb: float
    #: Of the child that had most; its peak before the first job, and in all.
    worker_child_ready_rss_mb: float
    worker_child_peak_rss_mb: float
    #: `used_memory_peak`, less what an empty server has.
    redis_peak_mb: float


@dataclass
class Peaks:
    """Peaks of the producer and the worker's children, looked at from a thread of ours.

    A process's peak is the kernel's own count, so that nothing between two looks is missed; but
    it can only be read while the process lives. Use it in a `with` block.
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
            # The process may end between the list and the look.
            with suppress(ValueError, OSError):
                self.producer_mb = max(self.producer_mb, memory.peak_rss_mb(self.producer))
            with suppress(ValueError, OSError):
                self.child_mb = max(self.child_mb, *map(memory.peak_rss_mb, self.children()))


def write_inputs(folder: Path, pairs: int) -> int:
    """Write corpus, queries and run with about so many pairs, no two of them equal.

    The sample is repeated as often as it takes, each copy of a query and of a document with the
    copy's number behind its text. So the corpus grows with the queries. Gives the queries written.
    """
    collection = Collection(SAMPLE)
    queries = collection.draw(KINDS["real"], len(collection), CANDIDATES, seed=0)
    wanted = math.ceil(pairs / CANDIDATES)
    with (
        (folder / "corpus.jsonl").open("w") as corpus,
        (folder / "queries.jsonl").open("w") as questions,
        (folder / "run.trec").open("w") as run,
    ):
        numbers: dict[str, int] = {}
        for number in range(wanted):
            copy, place = divmod(number, len(queries))
            if place == 0:
                numbers.clear()  # a new copy of every document
            query = queries[place]
            _write(questions, _id=f"q{number}", text=f"{query.text} {copy}")
            for rank, text in enumerate(query.documents, start=1):
                if text not in numbers:
                    numbers[text] = len(numbers)
                    _write(corpus, _id=f"d{copy}-{numbers[text]}", title="", text=f"{text} {copy}")
                score = CANDIDATES - rank
                run.write(f"q{number} Q0 d{copy}-{numbers[text]} {rank} {score} bm25\n")
    return wanted


def measure(pairs: int, threads: int, scratch: Path) -> Run:
    """Re-score about so many pairs with a fresh service."""
    queries = write_inputs(scratch, pairs)
    inputs = [scratch / name for name in ("corpus.jsonl", "queries.jsonl", "run.trec")]
    threads_each = max(1, threads // CHILDREN)
    with (
        Service(BUNDLED, CHILDREN, threads_each, scratch) as service,
        redis.Redis.from_url(service.url) as server,
    ):
        empty_mb = server.info("memory")["used_memory_startup"] / 1e6
        ready_mb = max(map(memory.peak_rss_mb, service.worker_children()))
        began = time.monotonic()
        peaks = _rescore(service, inputs, scratch)
        seconds = time.monotonic() - began
        redis_peak_mb = server.info("memory")["used_memory_peak"] / 1e6 - empty_mb
    return Run(
        pairs=queries * CANDIDATES,
        queries=queries,
        input_mb=sum(path.stat().st_size for path in inputs) / 1e6,
        seconds=seconds,
        pairs_per_s=queries * CANDIDATES / seconds,
        producer_peak_rss_mb=peaks.producer_mb,
        worker_child_ready_rss_mb=ready_mb,
        worker_child_peak_rss_mb=peaks.child_mb,
        redis_peak_mb=redis_peak_mb,
    )


def _rescore(service: Service, inputs: list[Path], scratch: Path) -> Peaks:
    corpus, queries, run = map(str, inputs)
    log = scratch / "rescore.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "producer", "rescore"),
                *("--corpus", corpus, "--queries", queries, "--run", run),
                *("--output", str(scratch / "reranked.trec")),
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


def _write(file: IO[str], **record: str) -> None:
    file.write(json.dumps(record) + "\n")


def _sizes(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    try:
        sizes = sorted(int(float(each)) for each in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of numbers like 1e3,1e4") from error
    if sizes[0] < 1:
        raise click.BadParameter("a size is 1 or more")
    return sizes


@click.command()
@click.option(
    "--sizes", default="1e3,1e4,1e5", callback=_sizes, show_default=True, help="Pairs, each run."
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(sizes: list[int], threads: int, out: Path) -> None:
    """Measure, and write growth.json and growth.png."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    runs: list[Run] = []
    for size in sizes:
        guess = f", about {size / runs[-1].pairs_per_s:.0f} s" if runs else ""
        click.echo(f"{size:,} pairs{guess}, load average {os.getloadavg()[0]:.1f}", err=True)
        with tempfile.TemporaryDirectory(prefix="rerankq-growth-") as scratch:
            runs.append(measure(size, threads, Path(scratch)))
    record = {"machine": machine.describe(threads), "runs": [asdict(run) for run in runs]}
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_text(json.dumps(record, indent=1) + "\n")
    plots.growth(record, out / "growth.png")
    click.echo(table(runs))


def table(runs: list[Run]) -> str:
    """The runs in Markdown."""
    rows = [
        "| pairs | input | time | pairs/s | producer | worker child | Redis |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {run.pairs:,} | {run.input_mb:,.1f} MB | {run.seconds:,.1f} s | {run.pairs_per_s:,.0f}"
        f" | {run.producer_peak_rss_mb:,.0f} MB | {run.worker_child_peak_rss_mb:,.0f} MB"
        f" | {run.redis_peak_mb:,.1f} MB |"
        for run in runs
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
