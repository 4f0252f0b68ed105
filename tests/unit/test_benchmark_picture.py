"""The picture of the benchmark has a row of panels for each machine that was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import figures, picture
from benchmarks.options import RESULTS

#: Figures of no real machine.
GPU: dict[str, Any] = {
    "card": "A card of the tests",
    "device": "cuda",
    "pairs": 50_000,
    "machine": {"packages": {"torch": "2.13"}},
    "models": {
        name: {
            "title": name,
            "dtype": "float16",
            "first_pairs_per_s": 40.0,
            "pairs_per_s": 50.0,
            "predict_pairs_per_s": {"batches of 128": 5.0, "batches of 512": 10.0},
            "first_ratio": 4.0,
        }
        for name in ("small", "large")
    },
}


def write_gpu(folder: Path, **changes: Any) -> Path:
    path = folder / "gpu.json"
    path.write_text(json.dumps(GPU | changes))
    return path


def test_the_figures_of_the_cpu_are_those_of_the_tracked_table() -> None:
    text = (RESULTS / "bench.md").read_text()
    made = figures.of_cpu(RESULTS / "bench.md")
    assert made is not None
    assert text.startswith(f"{made.title}. ")
    six, two = made.panels
    for panel in (six, two):
        rates = [bar.pairs_per_s for bar in panel.bars]
        assert rates == sorted(rates)
        assert [bar.label for bar in panel.bars if bar.is_ours] == ["rerankq"]
        assert {bar.label for bar in panel.bars if not bar.is_exact} == {
            "openvino int8",
            "onnxruntime int8",
        }
        (ours,) = (bar for bar in panel.bars if bar.is_ours)
        assert ours.low <= ours.pairs_per_s <= ours.high
        assert f"| **rerankq** | {ours.pairs_per_s:,g} | {ours.low:,g} to {ours.high:,g} |" in text


def test_the_figures_of_a_gpu_have_two_bars_for_each_model(tmp_path: Path) -> None:
    made = figures.of_gpu(write_gpu(tmp_path))
    assert made is not None
    assert made.title == "A card of the tests, torch 2.13"
    (panel,) = made.panels
    # The first model is at the top, which is the end of the list.
    assert [(bar.label, bar.pairs_per_s, bar.ratio) for bar in panel.bars[-2:]] == [
        ("small: predict", 10.0, 1.0),
        ("small: rerankq", 40.0, 4.0),
    ]
    assert (panel.bars[-1].low, panel.bars[-1].high) == (40.0, 50.0)


def test_a_trial_on_a_cpu_is_not_drawn_as_a_gpu(tmp_path: Path) -> None:
    assert figures.of_gpu(write_gpu(tmp_path, device="cpu")) is None
    assert figures.of_gpu(write_gpu(tmp_path, models={})) is None
    assert figures.of_gpu(tmp_path / "nothing.json") is None
    assert figures.of_cpu(tmp_path / "nothing.md") is None


def test_the_picture_grows_by_the_row_of_the_gpu(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires the extra bench")
    path = tmp_path / "bench.png"

    def height() -> int:
        done = CliRunner().invoke(picture.main, ["--out", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return int.from_bytes(path.read_bytes()[20:24])

    (tmp_path / "bench.md").write_text((RESULTS / "bench.md").read_text())
    alone = height()
    write_gpu(tmp_path)
    assert height() > alone


def test_the_growth_can_be_drawn_again_from_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires the extra bench")
    from benchmarks import plots

    path = tmp_path / "growth.png"
    plots.growth(json.loads((RESULTS / "growth.json").read_text()), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_figures_nothing_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="requires the extra bench")
    done = CliRunner().invoke(picture.main, ["--out", str(tmp_path)])
    assert done.exit_code == 1
    assert list(tmp_path.iterdir()) == []
