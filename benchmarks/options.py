"""What a run measures, how often, and how long that takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.shapes import SHAPES, Shape, useful_flops
from benchmarks.ways import REFERENCE, WAYS
from benchmarks.work import FEWEST, KINDS, SAMPLE, Kind

RESULTS = Path(__file__).parent / "results"
PARTS = ("ways", "calls", "queue")
#: Documents for each model, unless told: twelve layers would take as long as all others together.
DOCUMENTS = {"bundled": tuple(KINDS), "minilm-6": tuple(KINDS), "minilm-12": ("real",)}

# Guesses, of two cores and 14 ways; they are corrected as the work goes on.
GUESS_PREPARE_S = 35.0
GUESS_LOAD_S = 35.0
GUESS_CALLS_S = 3.0
GUESS_QUEUE_S = 90.0


@dataclass(frozen=True)
class Options:
    """What is measured, and how often."""

    models: tuple[str, ...]
    #: Empty: those of `DOCUMENTS`.
    documents: tuple[str, ...]
    ways: tuple[str, ...]
    parts: tuple[str, ...]
    #: Of real documents a repeat, for six layers; other cells get what takes about as long.
    pairs: int
    repeats: int
    calls: int
    small_jobs: int
    threads: int
    data: str

    def kinds(self, model: str) -> list[Kind]:
        """The documents for a model, shortest first (see `work.KINDS`)."""
        chosen = self.documents or DOCUMENTS[model]
        return [kind for name, kind in KINDS.items() if name in chosen]

    def turn_s(self, shape: Shape, kind: Kind) -> float:
        """Seconds in which each way scores the pairs of a repeat, guessed."""
        pairs = max(FEWEST, self.pairs * shape.pairs_factor * kind.pairs_factor)
        flops = pairs * useful_flops(shape, [kind.tokens])
        return len(self.ways) * flops / (shape.guess_gflops * 1e9)

    def total_s(self) -> float:
        """Seconds that all of it takes, guessed."""
        return sum(self._model_s(SHAPES[model]) for model in self.models)

    def _model_s(self, shape: Shape) -> float:
        seconds = GUESS_PREPARE_S
        if {"ways", "calls"} & set(self.parts):
            seconds += GUESS_LOAD_S
        if "ways" in self.parts:
            turns_s = sum(self.turn_s(shape, kind) for kind in self.kinds(shape.name))
            seconds += (self.repeats + 1) * turns_s
        if "calls" in self.parts:
            seconds += self.calls * GUESS_CALLS_S
        if "queue" in self.parts:
            seconds += 2 * GUESS_QUEUE_S
        return seconds


#: What is measured unless told, and what with --quick.
DEFAULTS: dict[str, Any] = {
    "models": tuple(SHAPES),
    "documents": (),
    "ways": tuple(WAYS),
    "parts": PARTS,
    "pairs": 120,
    "repeats": 5,
    "calls": 7,
    "small_jobs": 50,
    "threads": 2,
    "data": os.path.relpath(SAMPLE),
}
QUICK = DEFAULTS | {
    "models": ("bundled", "minilm-6"),
    "documents": ("real",),
    "pairs": 40,
    "repeats": 3,
    "calls": 3,
    "small_jobs": 20,
}


def choose(quick: bool, **given: Any) -> Options:
    """The options that were given, and for the others those of a quick or a whole run."""
    values = (QUICK if quick else DEFAULTS) | {
        name: value for name, value in given.items() if value is not None
    }
    # The others' scores are compared with its, and their speed too.
    if REFERENCE not in values["ways"]:
        values["ways"] += (REFERENCE,)
    return Options(**values)


class Names(click.ParamType[tuple[str, ...]]):
    """A comma-separated choice of names."""

    name = "names"

    def __init__(self, *known: str) -> None:
        self._known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, each of which must be known."""
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        unknown = [name for name in names if name not in self._known]
        if unknown or not names:
            self.fail(f"{value!r} is not some of {','.join(self._known)}", param, ctx)
        return names
