"""The benchmark on a GPU: rerankq and `CrossEncoder.predict` on the same pairs.

Run `make bench-gpu`, or `python -m benchmarks.gpu` in the repository's root. It takes less than
eight minutes, and writes gpu.json and gpu.md. Without a GPU it exits with code 2.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import gpu_queue, machine, own_process
from benchmarks.gpu_measure import GpuFigures, measure
from benchmarks.gpu_models import GPU_MODELS, QUICK_MODEL, THROUGH_REDIS
from benchmarks.gpu_report import render
from benchmarks.inputs import copies
from benchmarks.options import RESULTS
from benchmarks.random_models import RandomModel
from benchmarks.runner import last_line
from benchmarks.work import KINDS, Collection, Pair

logger = logging.getLogger(__name__)

PAIRS = 50_000
#: More through Redis, because a GPU scores the others in a second.
QUEUE_PAIRS = 200_000
QUICK_PAIRS = 150
NO_GPU = 2
#: Measurements start only within this time, so that a run ends within eight minutes.
LIMIT_S = 400.0
#: How long a model may take.
MODEL_LIMIT_S = 180.0


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
        click.echo(
            f"there is no GPU that torch {torch.__version__} can use: try --device cpu --quick",
            err=True,
        )
        sys.exit(NO_GPU)
    unknown = [name for name in models.split(",") if name not in GPU_MODELS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GPU_MODELS)}.")
    chosen = [QUICK_MODEL] if quick else [GPU_MODELS[name] for name in models.split(",")]
    pairs = pairs_of(data, QUICK_PAIRS if quick else PAIRS)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    run = Run(pairs, data, device, out, queue_pairs=QUICK_PAIRS if quick else QUEUE_PAIRS)
    with tempfile.TemporaryDirectory(prefix="rerankq-gpu-") as scratch:
        for model in chosen:
            run.measure(model, Path(scratch), queue=queue)
    click.echo((out / "gpu.md").read_text())


class Run:
    """The measurements of a run. Each is written to the folder `out` as soon as it is there."""

    def __init__(
        self, pairs: list[Pair], data: Path | None, device: str, out: Path, *, queue_pairs: int
    ) -> None:
        self._began = time.monotonic()
        self._pairs = pairs
        self._data = data
        self._device = device
        self._out = out
        self._results: dict[str, Any] = {
            "card": card(device),
            "device": device,
            "machine": machine.describe(threads=1),
            "pairs": len(pairs),
            "queue_pairs": queue_pairs if data is None else len(pairs),
            "models": {},
            "queue": [],
            "skipped": [],
        }

    def measure(self, model: RandomModel, scratch: Path, *, queue: bool) -> None:
        """Measure a model if there is time left, and what the queue adds to one of them."""
        folder = scratch / model.name
        with self._part(model.title):
            model.write(folder, [text for _, text in self._pairs])
            figures = self._figures(model, folder)
            self._results["models"][model.name] = figures.record()
            if not queue or model not in (GPU_MODELS[THROUGH_REDIS], QUICK_MODEL):
                return
            self._write()
            with self._part("through Redis"):
                for row in gpu_queue.measure(
                    *(folder, self._data, self._results["queue_pairs"]),
                    *(self._device, scratch, figures.pairs_per_s),
                ):
                    self._results["queue"].append(row)
                    self._write()

    @contextmanager
    def _part(self, title: str) -> Iterator[None]:
        """Note why a part has no figures, so that it does not take those of others with it."""
        click.echo(f"{title}, after {self._seconds:.0f} s", err=True)
        try:
            if self._seconds > LIMIT_S:
                raise TimeoutError("there was no time left")
            yield
        except Exception as error:
            logger.exception("%s failed", title)
            self._results["skipped"].append(f"{title}: {last_line(str(error))}")
        self._write()

    def _figures(self, model: RandomModel, folder: Path) -> GpuFigures:
        arguments = (model, folder, self._pairs, self._device)
        if self._device == "cpu":
            return measure(*arguments)
        figures: GpuFigures = own_process.call(measure, *arguments, limit_s=MODEL_LIMIT_S)
        return figures

    def _write(self) -> None:
        self._results["seconds"] = round(self._seconds, 1)
        (self._out / "gpu.json").write_text(json.dumps(self._results, indent=1) + "\n")
        (self._out / "gpu.md").write_text(render(self._results))

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began


if __name__ == "__main__":
    # A time limit of a shell must not leave a worker on the GPU.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
