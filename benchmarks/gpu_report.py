"""Render the results of the benchmark on a GPU as a page."""

from __future__ import annotations

from typing import Any

from benchmarks import gpu_bars


def render(results: dict[str, Any]) -> str:
    """Return the page."""
    packages = results["machine"]["packages"]
    lines = [
        "# Benchmark on a GPU",
        "",
        f"{results['card']}, {results['machine']['cores']} cores of"
        f" {results['machine']['processor']}, torch {packages['torch']}, sentence-transformers"
        f" {packages['sentence-transformers']}. {results['pairs']:,} pairs, models of random"
        f" weights, {results['seconds']:.0f} s.",
        "",
        "Required on an H100 or an H200:",
        "",
        "| | Required | Measured | |",
        "| --- | ---: | ---: | --- |",
        *gpu_bars.rows(results),
        "",
        "Rates are pairs per second. The first run has new texts, whose tokens the next ones know."
        " `predict` is `CrossEncoder.predict` in its best case: see below.",
        "",
        "| Model | Engine | First run | Next runs | `predict` | Ratio | First ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *map(_speed, results["models"].values()),
        "",
        "Largest differences of scores from `predict` in float32:",
        "",
        "| Model | Precision | rerankq | `predict` | Deviation of the scores |",
        "| --- | --- | ---: | ---: | ---: |",
        *map(_difference, results["models"].values()),
    ]
    if results["models"]:
        lines += ["", "`predict` in each way:", "", *_ways(results["models"])]
    if results["queue"]:
        lines += [
            "",
            f"Through Redis, with a worker's default number of children and"
            f" {results['queue_pairs']:,} pairs:",
            "",
            "| Processes of `rerankq rescore` | Pairs/s | Share of the engine alone |",
            "| ---: | ---: | ---: |",
            *(
                f"| {each['processes']} | {each['pairs_per_s']:,.0f} | {each['share']:.0%} |"
                for each in results["queue"]
            ),
        ]
    if results["skipped"]:
        lines += ["", "Not measured:", "", *(f"- {each}" for each in results["skipped"])]
    return "\n".join(lines) + "\n"


def _speed(figures: dict[str, Any]) -> str:
    best = max(figures["predict_pairs_per_s"].values())
    return (
        f"| {figures['title']} | {figures['backend']} | {figures['first_pairs_per_s']:,.0f}"
        f" | {figures['pairs_per_s']:,.0f} | {best:,.0f} | {figures['ratio']:.1f}"
        f" | {figures['first_ratio']:.1f} |"
    )


def _difference(figures: dict[str, Any]) -> str:
    return (
        f"| {figures['title']} | {figures['dtype']} | {figures['max_difference']:.1e}"
        f" | {figures['predict_max_difference']:.1e} | {figures['deviation']:.1e} |"
    )


def _ways(models: dict[str, Any]) -> list[str]:
    """Return a table with a row for each way to call `predict`, and a column for each model."""
    columns = list(models.values())
    ways = dict.fromkeys(way for each in columns for way in each["predict_pairs_per_s"])
    return [
        f"| `predict` | {' | '.join(each['title'] for each in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(
            f"| {way} | "
            + " | ".join(_rate(each["predict_pairs_per_s"].get(way)) for each in columns)
            + " |"
            for way in ways
        ),
    ]


def _rate(rate: float | None) -> str:
    return "no memory" if rate is None else f"{rate:,.0f}"
