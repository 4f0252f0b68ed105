"""The benchmark: rerankq and other ways to score the same pairs with the same weights.

Run `make bench`, or `python -m benchmarks.bench` in the repository's root. It writes bench.json,
bench.md and bench.png.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks import families, machine, picture, queue_path, report
from benchmarks.measure import CEILING, Measuring
from benchmarks.options import (
    GUESS_CALLS_S,
    GUESS_FAMILIES_S,
    GUESS_LOAD_S,
    GUESS_PREPARE_S,
    GUESS_QUEUE_S,
    PARTS,
    RESULTS,
    Names,
    Options,
    choose,
)
from benchmarks.progress import Progress
from benchmarks.records import EXACT, Bench, Failed
from benchmarks.runner import Child, Children, WayFailed, prepare
from benchmarks.service import Service
from benchmarks.shapes import SHAPES, Shape
from benchmarks.ways import WAYS
from benchmarks.work import KINDS, Collection, Kind
from contract.errors import RerankError
from contract.printable import counted

SEED = 0
#: Queries per repeat through the queue, for six layers: about ten seconds on two cores.
QUEUE_QUERIES = 20
QUEUE_REPEATS = 3
BURST_JOBS = 1_000


class Benchmark:
    """One run, model by model. The results are collected in `bench`."""

    def __init__(self, options: Options, scratch: Path) -> None:
        self.bench = Bench(machine.describe(options.threads), asdict(options))
        self._options = options
        self._scratch = scratch
        self._collection = Collection(Path(options.data))
        self._progress = Progress(options.total_s())

    def run(self) -> Bench:
        """Measure everything that the options request."""
        self._note_load()
        for name in self._options.models:
            self._model(SHAPES[name])
        if "families" in self._options.parts:
            self._families()
        self.bench.took_s = self._progress.elapsed_s
        return self.bench

    def _note_load(self) -> None:
        load = self.bench.machine["load_average"]
        if load > machine.QUIET_LOAD:
            note = f"other programs were running at the start (load average {load})"
            self.bench.notes.append(note)
            self._progress.note(note)

    def _model(self, shape: Shape) -> None:
        folder = self._scratch / shape.name
        self._progress.step(f"{shape.title}: weights, ONNX and int8", GUESS_PREPARE_S)
        without = self._prepare(folder)
        if {"ways", "calls"} & set(self._options.parts):
            with Children(folder, self._options.threads, self._scratch, self._failed) as ways:
                self._ways(ways, folder, shape, without)
        if "queue" in self._options.parts:
            for number in (1, 2):
                children = counted(number, "child", "children")
                try:
                    self._queue(folder, shape, number)
                # A failure here does not affect the other figures.
                except (RuntimeError, WayFailed, RerankError) as error:
                    self._failed(shape.name, f"through Redis, {children}", str(error))

    def _failed(self, model: str, what: str, reason: str) -> None:
        self._progress.note(f"not measured: {what}: {reason}")
        self.bench.failed.append(Failed(model, what, reason))

    def _prepare(self, folder: Path) -> dict[str, str]:
        """Create the model's files; return the ways that lack theirs, with the reason."""
        needed = {needs for way in self._options.ways if (needs := WAYS[way].needs)}
        reason = prepare("weights", folder)
        if reason:
            raise click.ClickException(f"cannot create the weights: {reason}")
        # All other files are made from the ONNX file.
        steps = ["onnx", *sorted(needed - {"onnx"})] if needed else []
        failed: dict[str, str] = {}
        for step in steps:
            if reason := failed.get("onnx") or prepare(step, folder):
                failed[step] = reason
        return {
            way: f"requires {needs}, which failed: {failed[needs]}"
            for way in self._options.ways
            if (needs := WAYS[way].needs) in failed
        }

    def _ways(
        self, children: Children, folder: Path, shape: Shape, without: dict[str, str]
    ) -> None:
        ways = [way for way in self._options.ways if way not in without]
        self._progress.step(
            f"{shape.title}: loading {counted(len(ways), 'library', 'libraries')}", GUESS_LOAD_S
        )
        for way, reason in without.items():
            children.fail(way, reason)
        children.start([*ways, CEILING])
        measuring = Measuring(children, folder, self._collection, self._options.pairs, SEED)
        if "calls" in self._options.parts:
            guess_s = self._options.calls * GUESS_CALLS_S
            self._progress.step(f"{shape.title}: timing calls with one query", guess_s)
            self.bench.calls += measuring.calls(self._options.calls)
        if "ways" in self._options.parts:
            for kind in self._options.kinds(shape.name):
                self._cell(measuring, shape, kind)
            self.bench.ceilings.append(measuring.ceiling())
            self.bench.scored += measuring.scored()

    def _cell(self, measuring: Measuring, shape: Shape, kind: Kind) -> None:
        repeats = self._options.repeats
        guess_s = self._options.turn_s(shape, kind)
        plan = measuring.plan(kind, repeats)
        pairs = plan.queries_each * plan.candidates
        self._progress.step(f"{shape.title}, {kind.title}: comparing scores", guess_s)
        for way, apart in measuring.check(kind, repeats).items():
            if apart > EXACT:
                self._progress.note(f"not exact: {WAYS[way].title} (scores differ by {apart:.1e})")
        for number in range(repeats):
            self._progress.step(
                f"{shape.title}, {kind.title}: {pairs} pairs, repeat {number + 1} of {repeats}",
                guess_s,
            )
            measuring.repeat(number)

    def _families(self) -> None:
        names = ", ".join(families.FAMILIES[name].title for name in families.IN_BENCH)
        self._progress.step(f"other families: {names}", GUESS_FAMILIES_S)
        self.bench.families += families.measure(
            families.IN_BENCH,
            self._collection,
            self._options.threads,
            self._scratch,
            pairs=self._options.pairs // 2,
            repeats=self._options.repeats,
            failed=self._failed,
        )

    def _queue(self, folder: Path, shape: Shape, children: int) -> None:
        threads_each = max(1, self._options.threads // children)
        self._progress.step(
            f"{shape.title}: through Redis, children x threads: {children} x {threads_each}",
            GUESS_QUEUE_S,
        )
        plan = queue_path.Plan(
            queries=min(len(self._collection), round(QUEUE_QUERIES * shape.pairs_factor)),
            repeats=min(QUEUE_REPEATS, self._options.repeats),
            calls=self._options.small_jobs,
        )
        with ExitStack() as started:
            engines = [
                Child("rerankq", folder, threads_each, self._scratch) for _ in range(children)
            ]
            for engine in engines:
                started.callback(engine.end)
            service = started.enter_context(
                Service(str(folder), children, threads_each, self._scratch)
            )
            for engine in engines:
                engine.wait_ready()
            self.bench.queue.append(queue_path.measure(service, engines, self._collection, plan))
            if children > 1:
                self.bench.memory += queue_path.child_memory(service, shape.name)
            if children > 1 and shape.name == "bundled":
                self.bench.bursts.append(queue_path.burst(service, BURST_JOBS, self._collection))


@click.command()
@click.option("--quick", is_flag=True, help="Run for a few minutes, with fewer pairs and repeats.")
@click.option("--models", type=Names(*SHAPES), help=f"Models to measure: {','.join(SHAPES)}.")
@click.option(
    "--documents",
    type=Names(*KINDS),
    help=f"Documents to score: {','.join(KINDS)}. [default: all; for minilm-12 only real]",
)
@click.option("--ways", type=Names(*WAYS), help=f"Libraries to measure: {','.join(WAYS)}.")
@click.option("--parts", type=Names(*PARTS), help=f"Measurements to make: {','.join(PARTS)}.")
@click.option(
    "--pairs",
    type=click.IntRange(min=10),
    help="Pairs of real documents per repeat of minilm-6. Other models and documents get as many"
    " pairs as take the same time.",
)
@click.option("--repeats", type=click.IntRange(min=1), help="Repeats of each measurement.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads per library. [default: 2]")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False),
    help="Folder with corpus.jsonl, queries.jsonl and bm25.trec. [default: the sample]",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(quick: bool, out: Path, **given: Any) -> None:
    """Measure speed and memory, and write bench.json, bench.md and bench.png."""
    # If this process is terminated, it must stop the processes that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="rerankq-bench-") as scratch:
        bench = Benchmark(choose(quick, **given), Path(scratch)).run()
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(asdict(bench), indent=1) + "\n")
    tables = report.markdown(bench)
    (out / "bench.md").write_text(tables)
    picture.draw(out)
    click.echo(tables)


if __name__ == "__main__":
    main()
