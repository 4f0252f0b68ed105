"""Measure the memory of a worker: `python -m benchmarks.worker_memory --children 1,3 MODEL`.

Each number of children runs as a separate worker on a fresh Redis. The children score jobs with
pairs of 512 tokens first. With `--stages`, it also measures what each import adds, in a process
without a queue.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click

from benchmarks import memory
from benchmarks.service import Service
from producer import RerankClient

#: Jobs for each child, so that every child scores some.
JOBS_EACH = 8
#: Pairs of a job: more than one batch.
PAIRS = 24
#: A text of more than 512 tokens.
LONG = "a reranker scores pairs of texts " * 120
#: What a process imports that loads a model, in this order, and in the end the model.
STAGES = (
    ("Python and numpy", "import numpy"),
    ("torch", "import torch"),
    ("transformers", "import transformers"),
    ("its model classes", "import transformers.modeling_utils"),
    ("sentence-transformers", "from sentence_transformers import CrossEncoder"),
    ("the engine", "import worker.engine.choice"),
    ("the model, ready", "from worker.engine import load; scorer = load({model!r}, threads=1)"),
)
#: What a child imports whose models another process has loaded.
STAGES_OF_A_CHILD = (
    ("Python and numpy", "import numpy"),
    ("torch", "import torch"),
    ("the worker", "import worker.celery; worker.celery.app.loader.import_default_modules()"),
    ("the engine", "import worker.engine.prepared"),
)
_REPORT = "import os; from benchmarks import memory; print(memory.of(os.getpid()))"


@click.command()
@click.argument("model", default="bundled")
@click.option("--children", default="1,3", help="Numbers of children to measure.")
@click.option("--downgrade", default="bundled", help="The downgrade model.")
@click.option("--stages", is_flag=True, help="Measure what each import adds, too.")
def main(model: str, children: str, downgrade: str, stages: bool) -> None:
    """Print the memory of each process of a worker with MODEL, in MB of 10^6 bytes."""
    if stages:
        click.echo("A process that loads a model:")
        _print_stages(STAGES, model)
        click.echo("A child that shares a model:")
        _print_stages(STAGES_OF_A_CHILD, model)
    sums = {}
    for number in map(int, children.split(",")):
        with tempfile.TemporaryDirectory(prefix="rerankq-memory-") as logs:
            sums[number] = _print_worker(model, downgrade, number, Path(logs))
    if len(sums) > 1:
        fewest, most = min(sums), max(sums)
        further = (sums[most] - sums[fewest]) / (most - fewest)
        click.echo(f"each further child: PSS {further:.0f} MB")


def _print_worker(model: str, downgrade: str, children: int, logs: Path) -> float:
    """Print the memory of a worker's processes, and return the sum of their PSS."""
    with Service(model, children, 1, logs, {"RERANKQ_DOWNGRADE_MODEL": downgrade}) as service:
        with RerankClient(redis_url=service.url) as client:
            documents = [f"{number} {LONG}" for number in range(PAIRS)]
            jobs = [client.submit("which texts", documents) for _ in range(JOBS_EACH * children)]
            for job in jobs:
                client.result(job)
        pids = [service.pid("worker"), *service.worker_children()]
        found = [memory.of(pid) for pid in pids]
    for place, each in enumerate(found):
        click.echo(f"{model}, {children} children: {'child' if place else 'main '} {each}")
    total = sum(each.pss_mb for each in found)
    click.echo(f"{model}, {children} children: sum of PSS {total:.0f} MB")
    return total


def _print_stages(stages: Iterable[tuple[str, str]], model: str) -> None:
    """Print the memory of a process after each import."""
    lines = []
    for name, code in stages:
        lines += [code.format(model=model), f"print({name!r}, end=': ')", _REPORT]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
