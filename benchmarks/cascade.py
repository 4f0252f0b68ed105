"""Measure a cascade of two models: its time, and what it loses against the large model alone.

Run `python -m benchmarks.cascade --pairs 50000` in the repository's root. The queries are those of
the sample, each with as many candidates as it takes: those of its first stage, and other documents
of the corpus. There are two tables.

The first one has the time of the bundled model and a model of six layers, through a worker. The
large model has random weights, so its ranking has nothing to do with that of the small one. The
overlap then only shows that the cascade does what it says.

The second one has the loss for several numbers of documents (KEEP), of the bundled model as the
large one. There is no trained smaller model here. In its place is the bundled model that reads only
a few tokens of each pair, and the share of the query's words that a document has (the stub). Each
scores all pairs once, and the rankings of the cascades are made from these scores.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks import machine
from benchmarks.nights import Collection
from benchmarks.random_models import RandomModel, bert
from benchmarks.service import Service
from producer.rescore.evaluation import ndcg
from producer.rescore.ranking_changes import overlap

SAMPLE = Path("examples/packages")
LARGE = RandomModel("six-layers", "BERT, 6 layers x 384", bert, 6, 384, 12, 1536)
KEPT = (10, 20, 50, 100, 200, 500)
#: The number of tokens that the small model of the second table reads.
FEW_TOKENS = 24

#: The scores of the candidates of each query, in their order.
Scores = dict[str, list[float]]


def enlarge(collection: Collection, pairs: int) -> None:
    """Give all queries equally many candidates, `pairs` in total."""
    chance, each = random.Random(0), pairs // len(collection.queries)
    for query_id, ids in collection.candidates.items():
        others = sorted(collection.documents.keys() - set(ids))
        more = chance.sample(others, min(len(others), max(0, each - len(ids))))
        collection.candidates[query_id] = [*ids, *more][:each]


def compared(
    collection: Collection, keep: int, max_length: int, children: int
) -> dict[str, object]:
    """Compare the large model with its cascade through a worker; return what is printed."""
    with tempfile.TemporaryDirectory(prefix="rerankq-cascade-") as folder:
        scratch = Path(folder)
        model = scratch / LARGE.name
        LARGE.write(model, [])
        options = collection.write(scratch, list(collection.candidates))
        added = {"RERANKQ_ALLOWED_MODELS": "bundled", "RERANKQ_MAX_LENGTH": str(max_length)}
        with Service(str(model), children, 1, scratch, added) as service:
            command = [
                *(sys.executable, "-m", "producer", "compare", *options, "--json"),
                *("--model", str(model), "--cascade", f"bundled:{keep}"),
            ]
            done = subprocess.run(  # noqa: S603
                command, env=service.environment, stdout=subprocess.PIPE, text=True, check=True
            )
    said: dict[str, object] = json.loads(done.stdout)
    return said


def scores_of(model: str, collection: Collection, max_length: int) -> Scores:
    """Return the scores of all pairs."""
    from worker.engine import load

    scorer = load(model, max_length=max_length)
    return {each: scorer.score(collection.pairs([each])) for each in collection.candidates}


def cascaded(small: Sequence[float], large: Sequence[float], keep: int) -> list[int]:
    """Return the ranking of a cascade as indexes of candidates, best first."""
    by_small = sorted(range(len(small)), key=lambda index: -small[index])
    head = sorted(sorted(by_small[:keep]), key=lambda index: -large[index])
    return [*head, *by_small[keep:]]


def loss(collection: Collection, qrels: Path, max_length: int) -> list[str]:
    """Return the rows of the loss by the number of documents that the large model scores."""
    large = scores_of("bundled", collection, max_length)
    small = [
        scores_of("bundled", collection, FEW_TOKENS),
        scores_of("stub", collection, max_length),
    ]
    judged = _judgments(qrels)
    most = max(map(len, large.values()))
    return [
        f"| {keep:,} | "
        + " | ".join(_loss(collection, judged, each, large, keep, most) for each in small)
        + " |"
        for keep in (*(each for each in KEPT if each < most), most)
    ]


def _loss(
    collection: Collection,
    judged: dict[str, dict[str, int]],
    small: Scores,
    large: Scores,
    keep: int,
    most: int,
) -> str:
    overlaps, measures = [], []
    for query_id, ids in collection.candidates.items():
        alone, both = (
            [ids[index] for index in cascaded(small[query_id], large[query_id], kept)]
            for kept in (most, keep)
        )
        overlaps.append(overlap(alone, both))
        ranks = {document: -float(rank) for rank, document in enumerate(both)}
        measures.append(ndcg(judged.get(query_id, {}), ranks))
    return f"{sum(overlaps) / len(overlaps):.1%} | {sum(measures) / len(measures):.4f}"


def _judgments(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in path.read_text().splitlines()[1:]:
        query_id, document_id, relevance = line.split("\t")
        found.setdefault(query_id, {})[document_id] = int(relevance)
    return found


@click.command()
@click.option("--pairs", default=50_000, show_default=True)
@click.option("--keep", default=100, show_default=True, help="Documents for the large model.")
@click.option("--max-length", default=64, show_default=True, help="Tokens read of a pair.")
@click.option("--children", default=2, show_default=True)
@click.option("--only", type=click.Choice(["time", "loss"]), help="[default: both tables]")
def main(pairs: int, keep: int, max_length: int, children: int, only: str | None) -> None:
    """Print the time and the loss of a cascade as Markdown tables."""
    collection = Collection.read(SAMPLE, SAMPLE / "bm25.trec")
    enlarge(collection, pairs)
    total = sum(map(len, collection.candidates.values()))
    click.echo(
        f"{machine.processor()}, {children} children with one thread, {total:,} pairs of"
        f" {len(collection.queries)} queries, at most {max_length} tokens\n"
    )
    if only != "loss":
        _print_time(compared(collection, keep, max_length, children), keep)
    if only != "time":
        names = (f"{FEW_TOKENS} tokens", "common words")
        columns = (f"{what}, {name}" for name in names for what in ("overlap", "nDCG@10"))
        click.echo(f"| KEEP | {' | '.join(columns)} |\n|{' ---: |' * 5}")
        click.echo("\n".join(loss(collection, SAMPLE / "qrels.tsv", max_length)))


def _print_time(said: dict[str, object], keep: int) -> None:
    data = json.loads(json.dumps(said))
    runs = [
        ("six layers alone", data["a"]),
        ("cascade", data["b"]),
        ("its first pass, bundled", data["b"]["passes"][0]),
        (f"its second pass, six layers for {keep:,}", data["b"]["passes"][1]),
    ]
    click.echo("| | pairs | pairs/s | seconds |\n| --- | ---: | ---: | ---: |")
    for name, run in runs:
        figures = f"{run['pairs']:,} | {run['pairs_per_s']:,.0f} | {run['seconds']:,.1f}"
        click.echo(f"| {name} | {figures} |")
    click.echo(
        f"\nThe cascade saves {data['time_saved']:.0%} of the time. Overlap of the top 10 with the"
        f" large model alone, whose weights are random: {data['mean_overlap']:.1%}\n"
    )


if __name__ == "__main__":
    main()
