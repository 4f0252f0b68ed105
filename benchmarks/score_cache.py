"""Measure a cache of scores: the time of a look-up, the size of the file, and the memory.

Run `python -m benchmarks.score_cache` in the repository's root. Scores of ten million pairs are
added, 100 documents of each query. Then queries in random order are looked up, first as on a day on
which they were not used yet. Afterwards, the operating system is asked several times to drop the
file from its memory, and other queries are looked up. The time for which other processes had the
processors is not counted.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from benchmarks import machine
from contract.scoring import ScoringIdentity
from producer.score_cache.cache import DAY_S, ScoreCache
from producer.score_cache.keys import pair_keys
from producer.score_cache.maintenance import Maintenance

CANDIDATES = 100
#: The number of pairs of a transaction, as many as a job has.
JOB_PAIRS = 1_000
#: The number of pairs that are looked up.
LOOKED_UP = 500_000
#: How often the file is read from the disk.
FROM_DISK = 3
#: The number of characters of a document.
CHARS = 390
IDENTITY = ScoringIdentity(
    model="cross-encoder/ms-marco-MiniLM-L-6-v2",
    revision="c5ee24cb16019beea0893ab7796b1df96625c6b8",
    version=1,
    backend="rerankq",
    device="cpu",
    dtype="float32",
    max_length=512,
)


@dataclass(frozen=True)
class Cost:
    """The time of some pairs, in seconds: of the processor, and with waits for the disk."""

    cpu_s: float
    wall_s: float
    pairs: int

    def __str__(self) -> str:
        cpu, wall = (1e6 * seconds / self.pairs for seconds in (self.cpu_s, self.wall_s))
        return f"{cpu:.2f} µs of CPU time per pair, {wall:.2f} µs with the disk"


def measure(work: Callable[[], int]) -> Cost:
    """Measure work that returns a number of pairs."""
    cpu, wall = time.process_time(), time.perf_counter() - machine.waited_s()
    pairs = work()
    wall_s = time.perf_counter() - machine.waited_s() - wall
    return Cost(time.process_time() - cpu, wall_s, pairs)


def texts(query: int) -> list[str]:
    """Return the documents of a query, which it shares with the next few."""
    first = query // 10 * CANDIDATES
    return [f"document {first + place} ".ljust(CHARS, "x") for place in range(CANDIDATES)]


def fill(cache: ScoreCache, queries: Sequence[int]) -> int:
    """Add scores, in transactions as large as jobs."""
    chance = random.Random(0)
    rows: list[tuple[bytes, float, int]] = []
    for query in queries:
        keys = pair_keys(f"query {query}", texts(query))
        rows += [(key, chance.uniform(-12, 12), 0) for key in keys]
        if len(rows) >= JOB_PAIRS:
            cache.add(IDENTITY, rows)
            rows.clear()
    cache.add(IDENTITY, rows)
    return len(queries) * CANDIDATES


def look_up(cache: ScoreCache, queries: Sequence[int]) -> int:
    """Make the keys of all pairs, and look them up."""
    found = 0
    for query in queries:
        keys = pair_keys(f"query {query}", texts(query))
        found += len(cache.find(IDENTITY, keys))
        if cache.has_unnoted_uses:
            cache.note_use()
    cache.note_use()
    if found != len(queries) * CANDIDATES:
        raise click.ClickException(f"only {found:,} scores were found")
    return found


def look_up_in(file: Path, queries: Sequence[int]) -> int:
    """Open the file as `rescore` does, and look up all pairs."""
    with ScoreCache(str(file), clock=lambda: DAY_S, queries=len(queries)) as cache:
        return look_up(cache, queries)


def make_texts(queries: Sequence[int]) -> int:
    """Make the texts, whose time is not that of the cache."""
    return sum(len(texts(query)) for query in queries)


def peak_mb() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def drop_from_memory(file: Path) -> None:
    """Have the operating system read the file again from the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def report(pairs: int, file: Path) -> Iterator[str]:
    """Measure, and yield lines."""
    queries, chance = range(pairs // CANDIDATES), random.Random(1)
    day = 1.0
    number = min(LOOKED_UP // CANDIDATES, len(queries))
    some = [chance.sample(queries, number) for _ in range(2 + FROM_DISK)]
    making = measure(lambda: make_texts(some[0]))
    yield f"making the texts, which is included below: {making}"
    with ScoreCache(str(file), clock=lambda: day * DAY_S) as cache:
        yield f"adding {pairs:,} pairs: {measure(lambda: fill(cache, queries))}"
        yield f"memory: {peak_mb():.0f} MB at most"
        yield f"a look-up on the same day: {measure(lambda: look_up(cache, some[0]))}"
        day += 1
        yield f"the first look-up of a day: {measure(lambda: look_up(cache, some[1]))}"
    size = file.stat().st_size
    yield f"file: {size / 1e6:,.0f} MB, {size / pairs:.1f} bytes a pair"
    for each in some[2:]:
        drop_from_memory(file)
        yield f"a look-up from the disk: {measure(partial(look_up_in, file, each))}"
    with Maintenance(file, int(day)) as maintenance:
        yield f"stats: {measure(lambda: maintenance.stats().pairs).wall_s:.1f} s"
        cost = measure(lambda: maintenance.prune(None, size // 2).pairs)
        yield f"prune to half the size: {cost.wall_s:.1f} s for {cost.pairs:,} pairs"
    yield f"memory: {peak_mb():.0f} MB at most"


@click.command()
@click.option("--pairs", default=10_000_000, show_default=True)
@click.option("--folder", type=click.Path(exists=True, file_okay=False), help="For the file.")
def main(pairs: int, folder: str | None) -> None:
    """Measure a cache with this number of pairs."""
    click.echo(machine.processor())
    with tempfile.TemporaryDirectory(prefix="rerankq-cache-", dir=folder) as scratch:
        for line in report(pairs, Path(scratch) / "scores.db"):
            click.echo(line)


if __name__ == "__main__":
    main()
