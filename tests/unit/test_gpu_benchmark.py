"""The benchmark on a GPU runs on a CPU too, and reports it where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="requires a machine without a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(gpu.main, ["--out", str(tmp_path)])
    assert done.exit_code == gpu.NO_GPU
    assert done.output == "there is no GPU that torch can use: try --device cpu --quick\n"
    assert list(tmp_path.iterdir()) == []
