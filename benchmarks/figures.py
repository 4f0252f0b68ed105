"""Read the figures of each machine from the results, for the picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import SHAPES
from benchmarks.work import KINDS

#: The models of the CPU's panels.
CPU_MODELS = ("minilm-6", "bundled")
NOT_EXACT = "not exact"


@dataclass(frozen=True)
class Bar:
    """The throughput of one library, in pairs/s, and its ratio to `predict` at its best."""

    label: str
    pairs_per_s: float
    low: float
    high: float
    ratio: float
    is_ours: bool = False
    is_exact: bool = True


@dataclass(frozen=True)
class Panel:
    """The bars of one model or of several, slowest first, which is drawn at the bottom."""

    title: str
    bars: list[Bar]


@dataclass(frozen=True)
class MachineFigures:
    """The figures of one machine."""

    title: str
    method: str
    panels: list[Panel]


def of_cpu(path: Path) -> MachineFigures | None:
    """Return the figures for real documents in bench.md, or None if there are none."""
    text = path.read_text() if path.exists() else ""
    described = re.match(r"(.+?)\. Each figure is the median of (\d+) repeats", text)
    panels = [
        Panel(f"model: {SHAPES[name].title}", bars)
        for name in CPU_MODELS
        if (bars := _cpu_bars(text, f"{SHAPES[name].title}, {KINDS['real'].title}"))
    ]
    if described is None or not panels:
        return None
    method = (
        "all libraries score the same pairs with the same weights; median, minimum and maximum of"
        f" {described[2]} repeats"
    )
    return MachineFigures(described[1], method, panels)


def _cpu_bars(text: str, title: str) -> list[Bar]:
    """Return the bars of a table of `benchmarks.report`."""
    section = re.search(rf"^### {re.escape(title)}$(.*?)(?=^### |\Z)", text, re.MULTILINE | re.S)
    rows = list(_rows(section[1])) if section else []
    bars = []
    for row in rows:
        low, _, high = row["lowest to highest"].partition(" to ")
        bars.append(
            Bar(
                label=row["library"].strip("*"),
                pairs_per_s=_number(row["pairs/s"]),
                low=_number(low),
                high=_number(high),
                ratio=_number(row["ratio"]),
                is_ours=row["library"].strip("*").startswith("rerankq"),
                is_exact=NOT_EXACT not in row["scores"],
            )
        )
    return sorted(bars, key=lambda bar: bar.pairs_per_s)


def _rows(text: str) -> Iterator[dict[str, str]]:
    """Yield the rows of the only table in the text, by the names of the columns."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    if lines:
        head, _, *rows = lines
        for row in rows:
            yield dict(zip(head, row, strict=True))


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def of_gpu(path: Path) -> MachineFigures | None:
    """Return the figures in gpu.json, or None if there are none, or none of a GPU."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    models = list(results.get("models", {}).values())
    if not models or not str(results.get("device", "")).startswith("cuda"):
        return None
    precision = " and ".join(sorted({model["dtype"] for model in models}))
    bars = [bar for model in reversed(models) for bar in _gpu_bars(model)]
    title = f"{results['card']}, torch {results['machine']['packages']['torch']}"
    method = (
        f"{results['pairs']:,} pairs, random weights; rerankq: the range from new texts to known"
        " ones; predict: its best batch size"
    )
    return MachineFigures(title, method, [Panel(f"models in {precision}", bars)])


def _gpu_bars(model: dict[str, Any]) -> Iterator[Bar]:
    """Yield the bars of one model, the upper one last."""
    best = max(model["predict_pairs_per_s"].values())
    yield Bar(f"{model['title']}: predict", best, best, best, 1.0)
    first, again = model["first_pairs_per_s"], model["pairs_per_s"]
    low, high = sorted((first, again))
    label = f"{model['title']}: rerankq"
    yield Bar(label, first, low, high, model["first_ratio"], is_ours=True)
