"""A process scores with a model that another one has loaded and verified."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.errors import ModelUnavailable
from tests.unit import tiny_models
from worker.engine import exchange, load, model_classes
from worker.engine.families.registry import FAMILIES
from worker.engine.loader import prepare
from worker.engine.prepared import PreparedModel
from worker.engine.probes import PROBES

#: What a process that scores with a prepared model must not import.
OF_LOADING = {"transformers", "sentence_transformers", "scipy", "sklearn"}
SCORES = """
import sys
from worker.engine import exchange, load
from worker.engine.probes import PROBES
with open(sys.argv[1], "rb") as file:
    made = exchange.read(file)
scorer = load("bundled", prepared=made)
print(scorer.revision, scorer.score(PROBES), *sys.modules, sep="\\n")
"""


@pytest.fixture(scope="module")
def bundled() -> PreparedModel:
    made = prepare("bundled", threads=1, max_batch_tokens=512)
    assert made is not None
    return made


def test_a_process_scores_without_the_libraries_that_load_models(
    bundled: PreparedModel, tmp_path: Path
) -> None:
    # Given a model that this process has loaded
    file = tmp_path / "model"
    with file.open("wb") as opened:
        exchange.write(bundled, opened)

    # When another process scores with it
    command = [sys.executable, "-c", SCORES, str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90).stdout
    revision, scores, *modules = said.splitlines()

    # Then its scores are exactly the same, and it has not imported those libraries
    here = load("bundled", threads=1, max_batch_tokens=512)
    assert (revision, scores) == (here.revision, str(here.score(PROBES)))
    assert "torch" in modules
    assert not OF_LOADING.intersection(modules)


def test_a_model_whose_scores_differ_is_loaded_again(
    bundled: PreparedModel, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(bundled, scores=bundled.scores + 1e-6)

    scorer = load("bundled", threads=1, max_batch_tokens=512, prepared=other)

    assert "Loading bundled again, because its scores differ" in caplog.text
    assert scorer.engine is not bundled.engine
    assert scorer.score(PROBES) == load("bundled", prepared=bundled).score(PROBES)


def test_a_model_that_predict_scores_is_not_prepared(tmp_path: Path) -> None:
    assert prepare(tiny_models.bert(tmp_path, hidden_act="relu"), threads=1) is None


def test_a_model_that_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(ModelUnavailable, match="'/nowhere/at-all' cannot be loaded"):
        prepare("/nowhere/at-all")


def test_the_classes_in_configurations_are_those_of_the_families() -> None:
    assert {made.__name__ for each in FAMILIES for made in each.classes} == model_classes.CLASSES


@pytest.fixture
def modules(tmp_path: Path) -> str:
    return tiny_models.modernbert_modules(tmp_path, "mean")


def test_the_configuration_says_what_a_model_needs(modules: str) -> None:
    assert model_classes.have_fast_path(["bundled", modules])
    assert model_classes.need_no_libraries(["bundled"])
    # sentence-transformers computes the last modules
    assert not model_classes.need_no_libraries(["bundled", modules])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"architectures": ["T5Model", 3]}'])
def test_other_configurations_promise_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    for model in (str(tmp_path), str(tmp_path / "absent"), "stub", "stub:scale=2"):
        assert not model_classes.have_fast_path(["bundled", model])
        assert not model_classes.need_no_libraries(["bundled", model])


def test_a_model_in_modules_is_prepared_whole(
    modules: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = prepare(modules, threads=1, max_batch_tokens=512)
    assert made is not None
    with (Path(modules) / "written").open("w+b") as file:
        exchange.write(made, file)
        file.seek(0)
        read = exchange.read(file)
    assert load(modules, prepared=read).engine is read.engine
