"""The benchmark on a GPU runs on a CPU too, and reports it where there is no GPU."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu, gpu_bars, own_process
from benchmarks.gpu_models import QUICK_MODEL


def test_a_quick_run_on_a_cpu_measures_and_compares_a_model(tmp_path: Path) -> None:
    arguments = ("--device", "cpu", "--quick", "--no-queue", "--out", str(tmp_path))
    done = CliRunner().invoke(gpu.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["skipped"] == []
    (figures,) = results["models"].values()
    assert figures["backend"] == "rerankq"
    assert figures["max_difference"] < 1e-4
    assert figures["ratio"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# Benchmark on a GPU\n")
    assert figures["title"] in page
    assert f"{figures['pairs_per_s']:,.0f}" in page


def broken(_: dict[str, Any]) -> Any:
    raise MemoryError("no room for this model")


def test_a_model_that_fails_does_not_take_the_figures_of_others_with_it(tmp_path: Path) -> None:
    run = gpu.Run(gpu.pairs_of(None, 30), None, "cpu", tmp_path, queue_pairs=30)
    for model in (
        QUICK_MODEL,
        replace(QUICK_MODEL, name="broken", title="A broken one", make=broken),
    ):
        run.measure(model, tmp_path / "scratch", queue=False)
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert list(results["models"]) == [QUICK_MODEL.name]
    assert results["skipped"] == ["A broken one: no room for this model"]
    assert "- A broken one: no room for this model\n" in (tmp_path / "gpu.md").read_text()


def test_each_figure_is_beside_what_is_required() -> None:
    six = {"pairs_per_s": 60_000.0, "ratio": 9.9, "max_difference": 0.0021}
    results = {"models": {"minilm-6": six}, "queue": [{"processes": 1, "share": 0.61}]}
    rows = list(gpu_bars.rows(results))
    assert rows[:3] == [
        "| BERT, 6 layers x 384: pairs/s | at least 60,000 | 60,000 | met |",
        "| ... times `predict` | at least 10.0 | 9.9 | **missed** |",
        "| ... difference to float32 | at most 2.0e-03 | 2.1e-03 | **missed** |",
    ]
    assert [row.rpartition("| ")[2] for row in rows[3:]] == [
        *["not measured |"] * 4,
        "met |",
        "not measured |",
    ]


# A process for each model


def test_a_call_in_its_own_process_returns_what_it_returns() -> None:
    assert own_process.call(divmod, 7, 2, limit_s=60) == (3, 1)


@pytest.mark.parametrize(
    ("function", "arguments", "limit_s", "reason"),
    [
        (divmod, (1, 0), 60, "ZeroDivisionError: "),
        (os._exit, (3,), 60, "its process ended with exit code 3"),
        (time.sleep, (600,), 0.1, "it did not end within 0.1 s"),
    ],
)
def test_a_call_in_its_own_process_can_fail_in_any_way(
    function: Any, arguments: tuple[int, ...], limit_s: float, reason: str
) -> None:
    with pytest.raises(own_process.ProcessFailed, match=reason):
        own_process.call(function, *arguments, limit_s=limit_s)


@pytest.mark.skipif(torch.cuda.is_available(), reason="requires a machine without a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(gpu.main, ["--out", str(tmp_path)])
    assert done.exit_code == gpu.NO_GPU
    assert done.output == (
        f"there is no GPU that torch {torch.__version__} can use: try --device cpu --quick\n"
    )
    assert list(tmp_path.iterdir()) == []
