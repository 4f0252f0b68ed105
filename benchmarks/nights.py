"""Re-score a collection on several nights, between which little changes, with and without a cache.

Run `python -m benchmarks.nights FOLDER` in the repository's root. The folder has the files of
BEIR, `corpus.jsonl` and `queries.jsonl`, and a first-stage run. Each night, some documents change
and some queries are new. The pairs that are scored must be exactly those that have changed, and the
output must be byte-identical to that of a run without a cache.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import machine
from benchmarks.service import Service

#: The line of `rerankq rescore` about its cache.
_COUNTS = re.compile(r"cache: ([\d,]+) scores? found, ([\d,]+) not found")


@dataclass
class Collection:
    """A collection whose documents and queries change from night to night."""

    documents: dict[str, str]
    queries: dict[str, str]
    #: For each query, the ids of its candidates, best first.
    candidates: dict[str, list[str]]

    @classmethod
    def read(cls, folder: Path, run: Path) -> Collection:
        """Read a folder in the format of BEIR, and a run in that of TREC.

        Of several lines with the same query and document, the first counts.
        """
        candidates: dict[str, dict[str, None]] = {}
        for line in run.read_text().splitlines():
            query_id, _, document_id, *_ = line.split()
            candidates.setdefault(query_id, {}).setdefault(document_id)
        documents = {
            each["_id"]: " ".join(filter(None, (each.get("title"), each["text"])))
            for each in _records(folder / "corpus.jsonl")
        }
        queries = {each["_id"]: each["text"] for each in _records(folder / "queries.jsonl")}
        return cls(
            documents,
            {each: queries[each] for each in candidates},
            {query_id: list(each) for query_id, each in candidates.items()},
        )

    def pairs(self, query_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return the texts of all pairs of these queries."""
        return [
            (self.queries[query_id], self.documents[document_id])
            for query_id in query_ids
            for document_id in self.candidates[query_id]
        ]

    def change(self, share: float, night: int, chance: random.Random) -> None:
        """Change the texts of a share of the documents."""
        for document_id in chance.sample(
            sorted(self.documents), round(share * len(self.documents))
        ):
            self.documents[document_id] += f" Changed in night {night}."

    def write(self, folder: Path, query_ids: Sequence[str]) -> list[str]:
        """Write the files for `rerankq rescore` with these queries; return its options."""
        with (folder / "corpus.jsonl").open("w") as corpus:
            for document_id, text in self.documents.items():
                corpus.write(json.dumps({"_id": document_id, "text": text}) + "\n")
        with (folder / "queries.jsonl").open("w") as queries, (folder / "run").open("w") as run:
            for query_id in query_ids:
                queries.write(json.dumps({"_id": query_id, "text": self.queries[query_id]}) + "\n")
                for rank, document_id in enumerate(self.candidates[query_id], start=1):
                    run.write(f"{query_id} Q0 {document_id} {rank} {-rank} first\n")
        names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "run": "run"}
        return [part for name, file in names.items() for part in (f"--{name}", str(folder / file))]


@dataclass(frozen=True)
class Night:
    """The figures of a night."""

    pairs: int
    changed: int
    found: int
    scored: int
    with_cache_s: float
    without_cache_s: float
    cache_bytes: int
    same_bytes: bool


def rescore(options: Sequence[str], output: Path, service: Service) -> tuple[float, str]:
    """Run the command; return the seconds it took, and what it printed."""
    command = [sys.executable, "-m", "producer", "rescore", *options, "--output", str(output)]
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        command, env=service.environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(done.stderr.strip())
    return time.perf_counter() - began, done.stderr


def measure(
    collection: Collection,
    query_ids: Sequence[str],
    known: set[tuple[str, str]],
    scratch: Path,
    service: Service,
) -> Night:
    """Re-score with and without the cache; `known` are the pairs of earlier nights."""
    options = collection.write(scratch, query_ids)
    pairs = collection.pairs(query_ids)
    cache = scratch / "scores.db"
    with_s, said = rescore([*options, "--cache", str(cache)], scratch / "with.trec", service)
    without_s, _ = rescore(options, scratch / "without.trec", service)
    found = _COUNTS.search(said)
    if found is None:
        raise click.ClickException(f"no line about the cache in: {said}")
    changed = sum(pair not in known for pair in pairs)
    known.update(pairs)
    hits, scored = (int(number.replace(",", "")) for number in found.groups())
    return Night(
        len(pairs),
        changed,
        hits,
        scored,
        with_s,
        without_s,
        cache.stat().st_size,
        (scratch / "with.trec").read_bytes() == (scratch / "without.trec").read_bytes(),
    )


def table(nights: Sequence[Night]) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        "| night | pairs | new or changed | scored | with the cache | without | cache"
        " | same bytes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    rows += [
        f"| {number} | {night.pairs:,} | {night.changed:,} | {night.scored:,}"
        f" | {night.with_cache_s:.1f} s | {night.without_cache_s:.1f} s"
        f" | {night.cache_bytes / 1e6:.1f} MB | {'yes' if night.same_bytes else 'NO'} |"
        for number, night in enumerate(nights, start=1)
    ]
    return "\n".join(rows)


def _records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--run", type=click.Path(exists=True, path_type=Path), help="[default: FOLDER/*.trec]"
)
@click.option("--model", default="bundled", show_default=True)
@click.option("--nights", default=3, show_default=True)
@click.option("--change", default=0.01, show_default=True, help="Share of the documents per night.")
@click.option("--new-queries", default=5, show_default=True, help="Number per night.")
def main(
    folder: Path, run: Path | None, model: str, nights: int, change: float, new_queries: int
) -> None:
    """Re-score the collection in FOLDER each night, and print a table."""
    run = run or next(folder.glob("*.trec"), None)
    if run is None:
        raise click.UsageError("pass a first-stage run with --run")
    collection, chance = Collection.read(folder, run), random.Random(0)
    query_ids = list(collection.candidates)
    known: set[tuple[str, str]] = set()
    measured: list[Night] = []
    with (
        tempfile.TemporaryDirectory(prefix="rerankq-nights-") as scratch,
        Service(model, 1, 1, Path(scratch)) as service,
    ):
        for night in range(1, nights + 1):
            if night > 1:
                collection.change(change, night, chance)
            asked = query_ids[: len(query_ids) - (nights - night) * new_queries]
            measured.append(measure(collection, asked, known, Path(scratch), service))
    click.echo(f"{machine.processor()}, one child with one thread, model {model}\n")
    click.echo(table(measured))
    if any(each.changed != each.scored or not each.same_bytes for each in measured):
        raise SystemExit("Other pairs were scored than those that changed, or the bytes differ")


if __name__ == "__main__":
    main()
