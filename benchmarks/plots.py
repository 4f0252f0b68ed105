"""Draw the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks import machine
from benchmarks.figures import MachineFigures, Panel
from benchmarks.records import EXACT

OURS, OTHERS = "#c8442d", "#8a97a6"
DPI = 150


def throughput(machines: Sequence[MachineFigures], path: Path) -> bool:
    """Plot pairs/s with a row of panels for each machine; return False without figures."""
    if not machines:
        return False
    heights = [1.5 + 0.36 * max(len(panel.bars) for panel in each.panels) for each in machines]
    # Each row has a line for the machine, and the last one the legend.
    figure = plt.figure(figsize=(13.0, sum(heights) + 0.8), layout="constrained")
    figure.suptitle("Throughput on real documents (higher is better)", fontsize=14)
    rows = figure.subfigures(len(machines), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, each in zip(rows, machines, strict=True):
        row.suptitle(f"{each.title}\n{each.method}", fontsize=9, color="#555555")
        axes = row.subplots(1, len(each.panels), squeeze=False)[0]
        for axis, panel in zip(axes, each.panels, strict=True):
            _panel(axis, panel)
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
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return True


def _panel(axis: Any, panel: Panel) -> None:
    bars = panel.bars
    drawn = axis.barh(
        [each.label for each in bars],
        [each.pairs_per_s for each in bars],
        xerr=(
            [each.pairs_per_s - each.low for each in bars],
            [each.high - each.pairs_per_s for each in bars],
        ),
        color=[OURS if each.is_ours else OTHERS for each in bars],
        error_kw={"ecolor": "#333333", "elinewidth": 1, "capsize": 2},
    )
    for bar, each in zip(drawn, bars, strict=True):
        if not each.is_exact:
            bar.set(hatch="////", edgecolor="white")
        axis.annotate(
            f"{each.pairs_per_s:,.0f}  ({each.ratio:.2f}x)",
            (each.high, bar.get_y() + bar.get_height() / 2),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for label, each in zip(axis.get_yticklabels(), bars, strict=True):
        label.set_fontweight("bold" if each.is_ours else "normal")
    axis.set_title(panel.title, fontsize=11)
    axis.set_xlabel("pairs/s (ratio to predict at its best batch size)", fontsize=9)
    axis.set_xlim(0, 1.25 * max(each.high for each in bars))
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
