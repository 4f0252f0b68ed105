"""Draw the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks import machine
from benchmarks.records import EXACT, Bench, Scored
from benchmarks.shapes import SHAPES
from benchmarks.work import KINDS

OURS, OTHERS = "#c8442d", "#8a97a6"
DPI = 150


def bars(bench: Bench, path: Path) -> bool:
    """Plot pairs/s per way on real documents for six and two layers; return False without data."""
    panels = [
        (name, records)
        for name in ("minilm-6", "bundled")
        if (records := _on_real_documents(bench, name))
    ]
    if not panels:
        return False
    rows = max(len(records) for _, records in panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(6.5 * len(panels), 1.6 + 0.36 * rows), squeeze=False
    )
    for axis, (name, records) in zip(axes[0], panels, strict=True):
        _panel(axis, name, records)
    figure.suptitle("Throughput on real documents (higher is better)", fontsize=14, y=0.99)
    figure.text(
        0.5,
        0.89,
        f"{machine.title(bench.machine)}\nall libraries score the same pairs with the same weights;"
        f" median, minimum and maximum of {bench.options['repeats']} repeats",
        ha="center",
        fontsize=9,
        color="#555555",
    )
    figure.legend(
        handles=[
            Patch(facecolor=OURS, label="rerankq"),
            Patch(facecolor=OTHERS, label="other libraries"),
            Patch(
                facecolor="white",
                edgecolor="#555555",
                hatch="////",
                label=f"scores differ by more than {EXACT}",
            ),
        ],
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0.05, 1, 0.89))
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return True


def _on_real_documents(bench: Bench, model: str) -> list[Scored]:
    """Return the results on real documents with the fastest last, which is drawn at the top."""
    records = [
        each for each in bench.scored if (each.model, each.documents) == (model, KINDS["real"].name)
    ]
    return sorted(records, key=lambda record: record.pairs_per_s.median)


def _panel(axis: Any, model: str, records: list[Scored]) -> None:
    medians = [each.pairs_per_s.median for each in records]
    below = [each.pairs_per_s.median - each.pairs_per_s.low for each in records]
    above = [each.pairs_per_s.high - each.pairs_per_s.median for each in records]
    drawn = axis.barh(
        [each.title for each in records],
        medians,
        xerr=(below, above),
        color=[OURS if each.way.startswith("rerankq") else OTHERS for each in records],
        error_kw={"ecolor": "#333333", "elinewidth": 1, "capsize": 2},
    )
    for bar, each in zip(drawn, records, strict=True):
        if not each.exact:
            bar.set(hatch="////", edgecolor="white")
        axis.annotate(
            f"{each.pairs_per_s.median:,.0f}  ({each.ratio.median:.2f}x)",
            (each.pairs_per_s.high, bar.get_y() + bar.get_height() / 2),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for label, each in zip(axis.get_yticklabels(), records, strict=True):
        label.set_fontweight("bold" if each.way == "rerankq" else "normal")
    axis.set_title(f"model: {SHAPES[model].title}", fontsize=11)
    axis.set_xlabel("pairs/s (ratio to predict at its best batch size)", fontsize=9)
    axis.set_xlim(0, 1.25 * max(each.pairs_per_s.high for each in records))
    axis.spines[["top", "right"]].set_visible(False)


def growth(record: dict[str, Any], path: Path) -> None:
    """Plot time and peak memory by the number of pairs, with both axes logarithmic."""
    runs = record["runs"]
    pairs = [run["pairs"] for run in runs]
    figure, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(11, 4.4))
    last = runs[-1]
    time_axis.loglog(
        pairs,
        [last["seconds"] * each / last["pairs"] for each in pairs],
        "--",
        color=OTHERS,
        label="proportional to the largest run",
    )
    time_axis.loglog(pairs, [run["seconds"] for run in runs], "o-", color=OURS)
    time_axis.set_ylabel("seconds")
    time_axis.set_title("Time", fontsize=11)
    for name, label in (
        ("worker_child_peak_rss_mb", "worker child (RSS)"),
        ("producer_peak_rss_mb", "producer (RSS)"),
        ("redis_peak_mb", "Redis (used_memory)"),
    ):
        memory_axis.loglog(pairs, [run[name] for run in runs], "o-", label=label)
    memory_axis.set_ylabel("peak memory (MB)")
    memory_axis.set_title("Memory", fontsize=11)
    for axis in (time_axis, memory_axis):
        axis.set_xlabel("pairs")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(which="major", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
    figure.suptitle("rerankq rescore: time and memory by number of pairs", fontsize=13, y=0.99)
    figure.text(
        0.5, 0.915, machine.title(record["machine"]), ha="center", fontsize=9, color="#555555"
    )
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
