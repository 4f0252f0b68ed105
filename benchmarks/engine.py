"""`Scorer.score` beside `CrossEncoder.predict`: the same pairs, repeats interleaved, medians.

python benchmarks/engine.py --model bundled --pairs 2000
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from sentence_transformers import CrossEncoder

from worker.models import BUNDLED, BUNDLED_PATH
from worker.scorer import Scorer

SAMPLE = Path(__file__).parents[1] / "examples" / "packages"


def processor() -> str:
    """The processor's name, as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def sample_pairs(count: int) -> list[tuple[str, str]]:
    """(query, document) pairs of the sample's run, as many as asked for, chosen at random."""
    queries, documents = texts("queries"), texts("corpus")
    run = [line.split() for line in (SAMPLE / "bm25.trec").read_text().splitlines()]
    chosen = random.Random(0).sample(run, min(count, len(run)))  # noqa: S311
    return [(queries[line[0]], documents[line[2]]) for line in chosen]


def texts(name: str) -> dict[str, str]:
    lines = (SAMPLE / f"{name}.jsonl").read_text().splitlines()
    return {line["_id"]: line["text"] for line in map(json.loads, lines)}


@click.command()
@click.option("--model", default=BUNDLED, show_default=True)
@click.option("--pairs", "count", default=2000, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(model: str, count: int, threads: int, repeats: int) -> None:
    """Print pairs/s of each way, and the largest difference between their scores."""
    pairs = sample_pairs(count)
    scorer = Scorer(model, threads=threads)
    encoder = CrossEncoder(str(BUNDLED_PATH) if model == BUNDLED else model, device="cpu")
    raw = torch.nn.Identity()

    def predict(batch_size: int) -> list[float]:
        scores = encoder.predict(pairs, batch_size=batch_size, activation_fn=raw)
        return [float(score) for score in scores]

    ways: dict[str, Callable[[], list[float]]] = {
        "rerankq Scorer": lambda: scorer.score(pairs),
        **{
            f"predict, batches of {size}": lambda size=size: predict(size)  # type: ignore[misc]
            for size in (8, 16, 32, 64)
        },
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name in random.sample(list(ways), len(ways)):
            began = time.perf_counter()
            scores[name] = ways[name]()
            seconds[name].append(time.perf_counter() - began)
    ours = scores["rerankq Scorer"]
    click.echo(f"{processor()}, torch {torch.__version__},")
    click.echo(f"{threads} threads, {model}, {len(pairs)} pairs, {repeats} repeats")
    for name, times in sorted(seconds.items(), key=lambda item: statistics.median(item[1])):
        rates = sorted(len(pairs) / each for each in times)
        apart = max(abs(a - b) for a, b in zip(ours, scores[name], strict=True))
        click.echo(
            f"{name:24} {statistics.median(rates):7.0f} pairs/s"
            f"  ({rates[0]:.0f} to {rates[-1]:.0f}), scores differ by at most {apart:.1e}"
        )


if __name__ == "__main__":
    main()
