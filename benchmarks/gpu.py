"""The benchmark on a GPU: rerankq and `CrossEncoder.predict` on the same pairs.

Run `make bench-gpu`, or `python -m benchmarks.gpu` in the repository's root. It takes less than
eight minutes, and writes gpu.json and gpu.md. Without a GPU it exits with code 2.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import gpu_queue, machine
from benchmarks.gpu_measure import measure
from benchmarks.gpu_models import GPU_MODELS, QUICK_MODEL, THROUGH_REDIS
from benchmarks.gpu_report import render
from benchmarks.inputs import copies
from benchmarks.options import RESULTS
from benchmarks.random_models import RandomModel
from benchmarks.runner import last_line
from benchmarks.work import KINDS, Collection, Pair

logger = logging.getLogger(__name__)

PAIRS = 50_000
QUICK_PAIRS = 150
NO_GPU = 2
#: Measurements start only within this time, so that a run ends within eight minutes.
LIMIT_S = 400.0


def pairs_of(data: Path | None, number: int) -> list[Pair]:
    """Return pairs of whole queries: from a folder, or copies of the sample."""
    if data is None:
        queries = [query for _, query in copies(number)]
    else:
        collection = Collection(data)
        queries = collection.draw(KINDS["real"], len(collection), number, seed=0)
    return [pair for query in queries for pair in query.pairs][:number]


def card(device: str) -> str:
    """Return the name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device != "cpu" else machine.processor()


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with corpus.jsonl, queries.jsonl and bm25.trec; by default, copies of the"
    " sample.",
)
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N or cpu.")
@click.option(
    "--models",
    default=",".join(GPU_MODELS),
    show_default=True,
    help="Models to measure, separated by commas.",
)
@click.option("--quick", is_flag=True, help="Measure a tiny model, to try the benchmark itself.")
@click.option("--queue/--no-queue", default=True, help="Also measure through Redis.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(data: Path | None, device: str, models: str, quick: bool, queue: bool, out: Path) -> None:
    """Measure models on a GPU, and write gpu.json and gpu.md."""
    if device != "cpu" and not torch.cuda.is_available():
        click.echo("there is no GPU that torch can use: try --device cpu --quick", err=True)
        sys.exit(NO_GPU)
    unknown = [name for name in models.split(",") if name not in GPU_MODELS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GPU_MODELS)}.")
    chosen = [QUICK_MODEL] if quick else [GPU_MODELS[name] for name in models.split(",")]
    pairs = pairs_of(data, QUICK_PAIRS if quick else PAIRS)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    results = run(chosen, pairs, data, device, queue=queue)
    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    text = render(results)
    (out / "gpu.md").write_text(text)
    click.echo(text)


def run(
    chosen: list[RandomModel], pairs: list[Pair], data: Path | None, device: str, *, queue: bool
) -> dict[str, Any]:
    """Return the results of all models, and of the queue; stop early if time runs out."""
    began = time.monotonic()
    results: dict[str, Any] = {
        "card": card(device),
        "device": device,
        "machine": machine.describe(threads=1),
        "pairs": len(pairs),
        "models": {},
        "queue": [],
        "skipped": [],
    }
    with tempfile.TemporaryDirectory(prefix="rerankq-gpu-") as scratch:
        for model in chosen:
            if time.monotonic() - began > LIMIT_S:
                results["skipped"].append(f"{model.title}: there was no time left")
                continue
            click.echo(f"{model.title}, after {time.monotonic() - began:.0f} s", err=True)
            folder = Path(scratch) / model.name
            # A model that fails must not take the figures of the others with it.
            try:
                model.write(folder, [text for _, text in pairs])
                figures = measure(model, folder, pairs, device)
                results["models"][model.name] = figures.record()
                if queue and model in (GPU_MODELS[THROUGH_REDIS], QUICK_MODEL):
                    click.echo(f"through Redis, after {time.monotonic() - began:.0f} s", err=True)
                    results["queue"] = gpu_queue.measure(
                        folder, data, len(pairs), device, Path(scratch), figures.pairs_per_s
                    )
            except Exception as error:
                logger.exception("%s failed", model.title)
                results["skipped"].append(f"{model.title}: {last_line(str(error))}")
    results["seconds"] = round(time.monotonic() - began, 1)
    return results


if __name__ == "__main__":
    main()
