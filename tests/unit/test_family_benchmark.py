"""The benchmark of families compares the median of all repeats with the best batch of predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import families
from benchmarks.families import FAMILIES, FamilyFailed
from benchmarks.families_report import page
from benchmarks.runner import Answer
from benchmarks.work import Pair
from worker.engine import load

PAIRS = [("a query", f"document {number}") for number in range(10)]
MODEL = FAMILIES["xlm-r"]
#: The backend of models without a fast path.
PREDICT = "sentence-transformers"
#: Seconds for any pairs, by way.
SECONDS = {"rerankq": 1.0, "predict-8": 4.0, "predict-16": 2.0, "predict-32": 5.0}


class StatedTimes:
    """Answers with the seconds of each way."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.loaded = dict(seconds)
        self.asked: list[str] = []

    def ask(self, way: str, pairs: Sequence[Pair]) -> Answer | None:
        self.asked.append(way)
        apart = 1e-5 if way == "rerankq" else 0.0
        scores = [float(number % 2) + apart for number in range(len(pairs))]
        return Answer(self.loaded[way], scores)


def test_the_ratio_is_to_the_best_batch_of_predict() -> None:
    made = families.compare(MODEL, StatedTimes(SECONDS), PAIRS[:2], [PAIRS, PAIRS])
    assert (made.pairs, made.pairs_per_s.median) == (10, 10.0)
    assert (made.predict_batch, made.predict_pairs_per_s.median) == (16, 5.0)
    assert made.ratio.median == 2.0
    assert made.max_difference == pytest.approx(1e-5)
    assert made.deviation == pytest.approx(0.5)


def test_each_way_has_a_turn_in_each_repeat_and_one_to_warm_up() -> None:
    children = StatedTimes(SECONDS)
    families.compare(MODEL, children, PAIRS[:2], [PAIRS, PAIRS])
    assert sorted(children.asked) == sorted(3 * list(SECONDS))


def test_a_batch_size_that_failed_is_left_out_but_rerankq_must_answer() -> None:
    others = {way: SECONDS[way] for way in ("rerankq", "predict-32")}
    assert families.compare(MODEL, StatedTimes(others), PAIRS, [PAIRS]).predict_batch == 32
    with pytest.raises(FamilyFailed, match="rerankq"):
        families.compare(MODEL, StatedTimes({"predict-32": 5.0}), PAIRS, [PAIRS])


def test_the_page_has_the_machine_its_load_and_a_row_for_each_family() -> None:
    made = families.compare(MODEL, StatedTimes(SECONDS), PAIRS, [PAIRS])
    machine = {
        "processor": "a CPU",
        "cores": 2,
        "threads": 2,
        "load_average": 0.1,
        "packages": {"torch": "2"},
    }
    text = page(machine, [made], ["bart: failed"])
    assert text.startswith("a CPU, 2 cores, torch 2, 2 threads. The load average was 0.1")
    assert f"| {MODEL.title} | 10 | 10.0 (10.0 to 10.0) | 5.0 (5.0 to 5.0) | 16 | 2.00 (" in text
    assert text.endswith("\n\nNot measured: bart: failed.\n")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_families_of_the_table_have_a_fast_path_and_the_others_do_not(
    tmp_path: Path, name: str
) -> None:
    small = replace(FAMILIES[name], layers=2, hidden=32, heads=2, intermediate=64)
    small.write(tmp_path / name, [text for pair in PAIRS for text in pair])
    scorer = load(str(tmp_path / name), device="cpu", threads=1)
    assert scorer.backend == ("rerankq" if name in families.IN_BENCH else PREDICT)
    assert len(scorer.score(PAIRS)) == len(PAIRS)
