"""Compare rerankq with `CrossEncoder.predict` for other families than BERT, without Redis.

Run `python -m benchmarks.families`, or with `--family albert,bart` for families that rerankq scores
with `predict` too. `make bench` includes the first families. It writes families.json and
families.md.
"""

from __future__ import annotations

import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import click

from benchmarks import families_report, machine
from benchmarks.measure import best_predict
from benchmarks.options import DEFAULTS, RESULTS, Names
from benchmarks.random_models import RandomModel, albert, bart, modernbert, xlm_roberta
from benchmarks.records import FamilyScored, Spread
from benchmarks.runner import Answer, Children
from benchmarks.ways import BATCH_SIZES, REFERENCE
from benchmarks.work import KINDS, Collection, Pair, Plan, samples

FAMILIES = {
    model.name: model
    for model in (
        RandomModel("xlm-r", "XLM-R, 6 layers x 384", xlm_roberta, 6, 384, 12, 1536),
        RandomModel("modernbert", "ModernBERT, 7 layers x 256", modernbert, 7, 256, 4, 384),
        RandomModel("albert", "ALBERT, 6 layers x 384", albert, 6, 384, 12, 1536),
        RandomModel("bart", "BART, 6 + 6 layers x 384", bart, 6, 384, 12, 1536),
    )
}
#: The families of `make bench`. They have a fast path.
IN_BENCH = ("xlm-r", "modernbert")
#: Batches of 64 have never been the fastest with documents of this length.
WAYS = ("rerankq", *(f"predict-{size}" for size in BATCH_SIZES if size < 64))
REPEATS, QUICK_REPEATS = 5, 3
PAIRS, QUICK_PAIRS = 60, 20


class Asked(Protocol):
    """The loaded ways of a model: see `benchmarks.runner.Children`."""

    @property
    def loaded(self) -> Any:
        """The ways that have not failed, by name."""
        ...

    def ask(self, way: str, pairs: list[Pair]) -> Answer | None:
        """Return the answer for the pairs, or None if the way fails."""
        ...


class FamilyFailed(Exception):
    """A family cannot be compared. The message has the reason."""


def compare(
    model: RandomModel,
    children: Asked,
    check: list[Pair],
    repeats: Sequence[list[Pair]],
    seed: int = 0,
) -> FamilyScored:
    """Score the pairs of all repeats with each way in turn. Raises `FamilyFailed`.

    The pairs of `check` are scored first, to warm up.
    """
    chance = random.Random(seed)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    difference, expected = 0.0, []
    for number, pairs in enumerate([check, *repeats]):
        answers = {
            way: answer
            for way in chance.sample(WAYS, len(WAYS))
            if way in children.loaded and (answer := children.ask(way, pairs)) is not None
        }
        if not {"rerankq", REFERENCE} <= set(answers):
            raise FamilyFailed(f"{' or '.join(('rerankq', REFERENCE))} has failed")
        scores, right = answers["rerankq"].scores, answers[REFERENCE].scores
        difference = max(difference, *(abs(a - b) for a, b in zip(scores, right, strict=True)))
        expected += right
        if number:
            for way, answer in answers.items():
                seconds[way].append(answer.seconds)
    rates = {
        way: [len(pairs) / each for pairs, each in zip(repeats, times, strict=True)]
        for way, times in seconds.items()
        if len(times) == len(repeats)
    }
    best = best_predict(rates)
    return FamilyScored(
        family=model.name,
        title=model.title,
        pairs=len(repeats[0]),
        pairs_per_s=Spread.of(rates["rerankq"]),
        predict_pairs_per_s=Spread.of(rates[best]),
        predict_batch=int(best.removeprefix("predict-")),
        ratio=Spread.of([a / b for a, b in zip(rates["rerankq"], rates[best], strict=True)]),
        max_difference=difference,
        deviation=statistics.pstdev(expected),
    )


def measure(
    names: Sequence[str],
    collection: Collection,
    threads: int,
    scratch: Path,
    *,
    pairs: int,
    repeats: int,
    failed: Callable[[str, str, str], object],
) -> Iterator[FamilyScored]:
    """Yield the comparison of each family; call `failed` with its name, the way and the reason."""
    plan = Plan.of(pairs, repeats, queries=len(collection))
    check, timed = samples(collection, KINDS["real"], plan, seed=0)
    texts = [text for each in (check, *timed) for pair in each for text in pair]
    for name in names:
        model, folder = FAMILIES[name], scratch / name
        model.write(folder, texts)
        with Children(folder, threads, scratch, failed) as children:
            children.start(WAYS)
            try:
                yield compare(model, children, check, timed)
            except FamilyFailed as error:
                failed(name, model.title, str(error))


@click.command()
@click.option(
    "--family",
    "names",
    type=Names(*FAMILIES),
    default=",".join(IN_BENCH),
    show_default=True,
    help=f"Families to measure: {','.join(FAMILIES)}.",
)
@click.option("--quick", is_flag=True, help="Score fewer pairs.")
@click.option("--pairs", type=click.IntRange(min=10), help="Pairs per repeat.")
@click.option("--repeats", type=click.IntRange(min=1), help="Repeats of each measurement.")
@click.option("--threads", type=click.IntRange(min=1), default=DEFAULTS["threads"])
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False),
    default=DEFAULTS["data"],
    help="Folder with corpus.jsonl, queries.jsonl and bm25.trec. [default: the sample]",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(
    names: tuple[str, ...],
    quick: bool,
    pairs: int | None,
    repeats: int | None,
    threads: int,
    data: str,
    out: Path,
) -> None:
    """Compare rerankq with predict at its best batch size, and write families.json and .md."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began, described = time.monotonic(), machine.describe(threads)
    failures: list[str] = []
    made: list[FamilyScored] = []
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rerankq-families-") as scratch:
        for each in measure(
            names,
            Collection(Path(data)),
            threads,
            Path(scratch),
            pairs=pairs or (QUICK_PAIRS if quick else PAIRS),
            repeats=repeats or (QUICK_REPEATS if quick else REPEATS),
            failed=lambda *words: failures.append(": ".join(words)),
        ):
            made.append(each)
            seconds = time.monotonic() - began
            click.echo(f"{each.title}: {each.ratio.median:.2f}, after {seconds:.0f} s", err=True)
            _write(out, described, made, failures)  # so that an interrupted run keeps them
    click.echo(_write(out, described, made, failures))


def _write(
    out: Path, described: dict[str, Any], made: Sequence[FamilyScored], failures: Sequence[str]
) -> str:
    """Write the results, and return the page."""
    results = {
        "machine": described,
        "families": [asdict(each) for each in made],
        "failed": list(failures),
    }
    (out / "families.json").write_text(json.dumps(results, indent=1) + "\n")
    page = families_report.page(described, made, failures)
    (out / "families.md").write_text(page)
    return page


if __name__ == "__main__":
    main()
