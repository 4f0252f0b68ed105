"""If scores change, `SCORING_VERSION` must change too, or caches would mix old and new ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from contract.passages import Passages
from tests.unit.predict_scores import fast_engine
from worker.engine import stub
from worker.engine.gpu_engine import GpuEngine
from worker.engine.passages import Cutter
from worker.engine.predict_engine import PredictEngine
from worker.engine.probes import PROBES
from worker.engine.protocol import Engine
from worker.engine.scoring_version import SCORING_VERSION
from worker.engine.varlen_functions import padded

#: More than the scores of two instruction sets differ by, which is at most 9e-6.
TOLERANCE = 3e-5
#: The scores of `PROBES` in this version, from the bundled model and from the stub.
VERSION = 1
BUNDLED = (-4.450795, 0.293626, 5.162320, 6.978682, 1.326041)
STUB = (-5.90539026, -5.65514231, -0.23189612, 5.95632553, -3.58385110)
INSTANT = (0.73079240, 0.12556446, 0.89344299, 0.76494479, 0.09992671)

#: The text of ten numbered sentences, and where it is cut into passages of 16 words.
SENTENCES = "".join(f"This is sentence {number}, and it goes on. " for number in range(10))
CUTS = [
    (0, 71),
    (36, 107),
    (72, 143),
    (108, 179),
    (144, 215),
    (180, 251),
    (216, 287),
    (252, 323),
    (288, 359),
]

CHANGED = (
    "the scores of the probes have changed: increase SCORING_VERSION in"
    " worker/engine/scoring_version.py, and put the new scores here"
)


def test_these_are_the_scores_of_this_version() -> None:
    assert SCORING_VERSION == VERSION, "put the scores of the new version here"


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    "make",
    [
        fast_engine,
        lambda bundled: PredictEngine(bundled, 1),
        lambda bundled: GpuEngine(bundled, padded()),
    ],
    ids=["fast", "predict", "gpu"],
)
def test_the_scores_of_a_model_have_not_changed(
    bundled: CrossEncoder, make: Callable[[CrossEncoder], Engine]
) -> None:
    output = make(bundled).run(PROBES)
    assert np.max(np.abs(output.scores - BUNDLED)) < TOLERANCE, CHANGED
    assert output.truncated == [False, False, False, False, True]


@pytest.mark.parametrize(("name", "scores"), [("stub", STUB), ("stub:instant=1", INSTANT)])
def test_the_scores_of_a_stub_have_not_changed(name: str, scores: tuple[float, ...]) -> None:
    output = stub.load(name, None, None).run(PROBES)
    assert np.max(np.abs(output.scores - scores)) < 1e-6, CHANGED


def test_the_passages_of_a_text_have_not_changed() -> None:
    cutter = Cutter(stub.load("stub", None, None), Passages(tokens=16, stride=8))
    assert cutter.cut("query", SENTENCES).bounds == CUTS, CHANGED
