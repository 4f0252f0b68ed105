"""Options: what a run measures, how often, and an estimate of how long that takes."""

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
PARTS = ("ways", "calls", "queue", "families")
#: Default documents of each model. All kinds with twelve layers would take as long as all other
#: models together.
DOCUMENTS = {"bundled": tuple(KINDS), "minilm-6": tuple(KINDS), "minilm-12": ("real",)}

# Estimates for two cores and 14 ways. They are corrected during the run.
GUESS_PREPARE_S = 35.0
GUESS_LOAD_S = 35.0
GUESS_CALLS_S = 3.0
GUESS_QUEUE_S = 90.0
GUESS_FAMILIES_S = 100.0


@dataclass(frozen=True)
class Options:
    """The measurements to make, and their number of repeats."""

    models: tuple[str, ...]
    #: If empty, use `DOCUMENTS`.
    documents: tuple[str, ...]
    ways: tuple[str, ...]
    parts: tuple[str, ...]
    #: Pairs of real documents per repeat, for six layers. Other cells get as many as take about the
    #: same time.
    pairs: int
    repeats: int
    calls: int
    small_jobs: int
    threads: int
    data: str

    def kinds(self, model: str) -> list[Kind]:
        """Return the documents for a model, shortest first (see `work.KINDS`)."""
        chosen = self.documents or DOCUMENTS[model]
        return [kind for name, kind in KINDS.items() if name in chosen]

    def turn_s(self, shape: Shape, kind: Kind) -> float:
        """Return an estimate of the seconds in which each way scores the pairs of a repeat."""
        pairs = max(FEWEST, self.pairs * shape.pairs_factor * kind.pairs_factor)
        flops = pairs * useful_flops(shape, [kind.tokens])
        return len(self.ways) * flops / (shape.guess_gflops * 1e9)

    def total_s(self) -> float:
        """Return an estimate of the seconds of the whole run."""
        families_s = GUESS_FAMILIES_S if "families" in self.parts else 0.0
        return sum(self._model_s(SHAPES[model]) for model in self.models) + families_s

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


#: The defaults, and the values with --quick.
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
    """Return the given options, completed with those of a quick or a full run."""
    values = (QUICK if quick else DEFAULTS) | {
        name: value for name, value in given.items() if value is not None
    }
    # The scores and the speed of all others are compared with those of the reference.
    if REFERENCE not in values["ways"]:
        values["ways"] += (REFERENCE,)
    return Options(**values)


class Names(click.ParamType[tuple[str, ...]]):
    """A comma-separated selection of names."""

    name = "names"

    def __init__(self, *known: str) -> None:
        self._known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names. Fails if one of them is unknown."""
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        unknown = [name for name in names if name not in self._known]
        if unknown or not names:
            self.fail(f"{value!r} is not a list of names from {','.join(self._known)}.", param, ctx)
        return names
