"""Measure what passages find in long documents, and what they cost.

Run `python -m benchmarks.long_documents FOLDER` in the repository's root. No collection with long
documents comes with rerankq, so this makes one from the sample. Each document of the sample stands
at a random place among others, in about 3,000 tokens. Those are from `corpus.jsonl` in FOLDER, and
not in the sample. Without passages, a model reads the first 512 tokens.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from benchmarks.markdown import table
from contract.passages import Passages
from producer.rescore.evaluation import Relevance, ndcg
from worker.engine import load
from worker.engine.passages import Cutter
from worker.engine.scorer import Scorer

SAMPLE = Path("examples/packages")
#: The length of a long document in characters, about 3,000 tokens.
CHARS = 12_500
#: The settings that are compared.
SETTINGS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"tokens": 128, "stride": 64},
    {"tokens": 256, "stride": 128},
    {"tokens": 256, "stride": 192},
    {"tokens": 256, "stride": 256},
    {"tokens": 256, "stride": 128, "aggregate": "mean-top2"},
    {"tokens": 256, "aggregate": "first"},
)


@dataclass(frozen=True)
class Collection:
    """Queries, their candidates and judgments, and the short and long texts of documents."""

    queries: dict[str, str]
    candidates: dict[str, list[str]]
    judgments: dict[str, Relevance]
    short: dict[str, str]
    long: dict[str, str]


def make(folder: Path, depth: int, seed: int = 1) -> Collection:
    """Make the collection from the sample and from the documents of `folder`."""
    chance = random.Random(seed)
    short = {each["_id"]: each["text"] for each in _records(SAMPLE / "corpus.jsonl")}
    others = [
        each["text"] for each in _records(folder / "corpus.jsonl") if each["_id"] not in short
    ]
    candidates: dict[str, list[str]] = {}
    for line in (SAMPLE / "bm25.trec").read_text().splitlines():
        query_id, _, document_id, *_ = line.split()
        if len(candidates.setdefault(query_id, [])) < depth:
            candidates[query_id].append(document_id)
    judgments: dict[str, Relevance] = {}
    for line in (SAMPLE / "qrels.tsv").read_text().splitlines()[1:]:
        query_id, document_id, relevance = line.split("\t")
        judgments.setdefault(query_id, {})[document_id] = int(relevance)
    queries = {each["_id"]: each["text"] for each in _records(SAMPLE / "queries.jsonl")}
    wanted = sorted({each for ids in candidates.values() for each in ids})
    long = {each: _lengthened(short[each], others, chance) for each in wanted}
    return Collection(queries, candidates, judgments, short, long)


def _lengthened(text: str, others: list[str], chance: random.Random) -> str:
    """Return a text among as many others as make it long, at a random place."""
    parts: list[str] = []
    while sum(map(len, parts)) < CHARS - len(text):
        parts.append(chance.choice(others))
    parts.insert(chance.randint(0, len(parts)), text)
    return " ".join(parts)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        yield from map(json.loads, lines)


def measure(
    scorer: Scorer, made: Collection, texts: dict[str, str], how: Passages | None
) -> tuple[float, int, float]:
    """Return nDCG@10, the number of pairs scored, and the seconds."""
    pairs = [
        (made.queries[query_id], texts[each])
        for query_id, ids in made.candidates.items()
        for each in ids
    ]
    began = time.perf_counter()
    scored = scorer.score_pairs(pairs, passages=how)
    seconds = time.perf_counter() - began
    logits, total = iter(scored.logits), 0.0
    for query_id, ids in made.candidates.items():
        scores = {each: next(logits) for each in ids}
        total += ndcg(made.judgments[query_id], scores)
    return total / len(made.candidates), scored.passages_scored or scored.unique_pairs, seconds


def cost(scorer: Scorer, made: Collection) -> tuple[float, float, int]:
    """Return the CPU time for finding passages and for scoring them, and their number.

    The best of three runs counts for each.
    """
    query = next(iter(made.queries.values()))
    texts = list(made.long.values())[:40]
    how = Passages(tokens=256, stride=128)
    cutting, scoring = [], []
    for _ in range(3):
        began = time.process_time()
        cutter = Cutter(scorer.engine, how)
        bounds = [(text, place) for text in texts for place in cutter.cut(query, text).bounds]
        cutting.append(time.process_time() - began)
        passages = [(query, text[begin:end]) for text, (begin, end) in bounds]
        began = time.process_time()
        scorer.score_pairs(passages)
        scoring.append(time.process_time() - began)
    return min(cutting), min(scoring), len(passages)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="bundled")
@click.option("--depth", default=50, help="Candidates of each query.")
@click.option("--threads", type=int, help="Threads that score.")
def main(folder: Path, model: str, depth: int, threads: int | None) -> None:
    """Print nDCG@10 and the time of each setting as a table."""
    made = make(folder, depth)
    scorer = load(model, threads=threads)
    pairs = sum(map(len, made.candidates.values()))
    click.echo(f"{machine.processor()}\n{len(made.queries)} queries, {pairs:,} pairs, {model}\n")
    rows = [("the short documents alone", *_row(measure(scorer, made, made.short, None)))]
    for each in SETTINGS:
        how = Passages.parse(each)
        name = how.key if how else "none: truncated"
        rows.append((name, *_row(measure(scorer, made, made.long, how))))
    click.echo(table(["Passages", "nDCG@10", "Pairs scored", "Seconds", "Pairs/s"], rows))
    cutting, scoring, count = cost(scorer, made)
    click.echo(
        f"\n{count:,} passages: {1e6 * cutting / count:.0f} µs of CPU time to cut one, and"
        f" {1e6 * scoring / count:,.0f} us to score it in {scorer.model}"
    )


def _row(measured: tuple[float, int, float]) -> tuple[str, ...]:
    value, pairs, seconds = measured
    return f"{value:.3f}", f"{pairs:,}", f"{seconds:.1f}", f"{pairs / seconds:,.0f}"


if __name__ == "__main__":
    main()
