"""Measure the CPU time that the queue takes for a pair, in each process, without a model.

Run `python -m benchmarks.queue_costs` in the repository's root. A worker with a stub engine and
`rerankq rescore` use a fresh Redis. CPU times depend little on other work of the machine.
"""

from __future__ import annotations

import operator
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import click
import redis

from benchmarks import cpu, inputs, machine
from benchmarks.service import Service
from benchmarks.work import CANDIDATES, Pair
from producer import RerankClient
from worker.engine import load

MODEL = "stub:instant=1"
PAIRS_PER_JOB = 1_000
#: The number of jobs that are read as records.
READ_JOBS = 20


@dataclass(frozen=True)
class Costs:
    """CPU time in seconds for a number of pairs, or in microseconds for one."""

    #: `rerankq rescore`, from its start to its end.
    producer: float
    #: The worker's child, with the engine.
    child: float
    #: The worker's main process, which receives the messages.
    main: float
    redis: float
    #: The stub engine, measured alone.
    engine: float

    def per_pair(self, smaller: Costs, pairs: int) -> Costs:
        """Return the additional cost of each of `pairs` pairs, in microseconds."""
        names = [field.name for field in fields(self)]
        return Costs(
            *(1e6 * (getattr(self, name) - getattr(smaller, name)) / pairs for name in names)
        )


def measure(service: Service, pairs: int, scratch: Path) -> Costs:
    """Re-score about `pairs` pairs."""
    queries = inputs.write_inputs(scratch, pairs)
    pairs = queries * CANDIDATES
    command = ["producer", "rescore", "--pairs-per-job", str(PAIRS_PER_JOB), "--window", "8"]
    for name, file in (
        ("--corpus", "corpus.jsonl"),
        ("--queries", "queries.jsonl"),
        ("--run", "run.trec"),
        ("--output", f"{pairs}.trec"),
    ):
        command += [name, str(scratch / file)]
    (child,) = service.worker_children()
    with redis.Redis.from_url(service.url) as server:

        def spent() -> list[float]:
            used = server.info("cpu")
            of_redis = used["used_cpu_user"] + used["used_cpu_sys"]
            return [cpu.of_process(child), cpu.of_process(service.pid("worker")), of_redis]

        before = spent()
        producer = cpu.of_command(command, scratch / "rescore.log", service.environment)
        child_s, main_s, redis_s = map(operator.sub, spent(), before)
    return Costs(producer, child_s, main_s, redis_s, engine=_engine_s(pairs))


def measure_reading(service: Service) -> float:
    """Return microseconds of CPU for each document of a result that a client reads as records."""
    made = [
        {
            "query": query.text,
            "candidates": [{"id": f"d{n}", "text": text} for n, text in enumerate(query.documents)],
        }
        for _, query in inputs.copies(READ_JOBS * PAIRS_PER_JOB)
    ]
    with RerankClient(redis_url=service.url) as client:
        ids = client.submit_many(made, pairs_per_job=PAIRS_PER_JOB)
        client.result(ids[-1])
        for job_id in ids:
            client.result(job_id)
        began = time.process_time()
        for job_id in ids:
            client.result(job_id)
        return 1e6 * (time.process_time() - began) / (len(made) * CANDIDATES)


def _engine_s(pairs: int) -> float:
    """Return the CPU time of the stub for this number of pairs, in portions as large as jobs."""
    engine = load(MODEL).engine
    queries = [query for _, query in inputs.copies(10 * PAIRS_PER_JOB)]
    each: list[Pair] = [pair for query in queries for pair in query.pairs]
    portions = [each[at : at + PAIRS_PER_JOB] for at in range(0, len(each), PAIRS_PER_JOB)]
    return _cpu_s(lambda: [engine.run(portion) for portion in portions]) * pairs / len(each)


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def table(sizes: tuple[int, int], runs: tuple[Costs, Costs], reading_us: float) -> str:
    """Return the costs as a Markdown table."""
    small, large = runs
    marginal = large.per_pair(small, sizes[1] - sizes[0])
    mean = large.per_pair(Costs(0, 0, 0, 0, 0), sizes[1])
    rows = [
        f"| µs of CPU time per pair | from {sizes[0]:,} to {sizes[1]:,} pairs | all {sizes[1]:,} |",
        "| --- | ---: | ---: |",
    ]
    names = {
        "producer": "`rerankq rescore`",
        "child": "the worker's child",
        "engine": "the stub engine in it",
        "main": "the worker's main process",
        "redis": "Redis",
    }
    rows += [
        f"| {text} | {getattr(marginal, name):.1f} | {getattr(mean, name):.1f} |"
        for name, text in names.items()
    ]
    return "\n".join([*rows, f"| `RerankClient.result` |  | {reading_us:.1f} |"])


@click.command()
@click.option("--quick", is_flag=True, help="Use a tenth of the pairs; the figures are less exact.")
@click.option("--sizes", nargs=2, type=int, default=(50_000, 200_000), show_default=True)
def main(quick: bool, sizes: tuple[int, int]) -> None:
    """Measure the costs of a pair, and print them as a table."""
    if quick:
        sizes = (sizes[0] // 10, sizes[1] // 10)
    with (
        tempfile.TemporaryDirectory(prefix="rerankq-costs-") as scratch,
        Service(MODEL, 1, 1, Path(scratch)) as service,
    ):
        small, large = (measure(service, size, Path(scratch)) for size in sizes)
        reading_us = measure_reading(service)
    click.echo(
        f"{machine.processor()}, jobs of {PAIRS_PER_JOB:,} pairs, one child, model {MODEL}\n"
    )
    click.echo(table(sizes, (small, large), reading_us))


if __name__ == "__main__":
    main()
