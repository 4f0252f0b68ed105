"""A model is found where it was configured, or the error names other ways to get it."""

from __future__ import annotations

import gc
import json
import logging
import re
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers.utils import logging as transformers_logging

from contract.errors import ModelUnavailable
from contract.models import short_name
from tests.unit import tiny_models
from tests.unit.conftest import FreshEngine
from worker.engine import Scorer, ScorerCache, load
from worker.engine.checkpoint import load_encoder
from worker.engine.model_paths import bundled_path

WAYS_OUT = ("CROSS_ENCODER_MODEL", "'bundled'", "SENTENCE_TRANSFORMERS_HOME", "to the hub")


def refused(model: str) -> ModelUnavailable:
    """Return the error of loading `model`."""
    with pytest.raises(ModelUnavailable) as caught:
        load(model)
    return caught.value


def marker_code(marker: Path) -> str:
    """Return Python code that leaves a trace when it runs."""
    return (
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
        "from transformers import BertConfig, BertForSequenceClassification\n"
        "class Config(BertConfig):\n    model_type = 'strange'\n"
        "class Model(BertForSequenceClassification):\n    config_class = Config\n"
    )


# Progress


def test_loading_shows_no_bar_and_leaves_those_of_other_programs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_models.bert(tmp_path)
    capfd.readouterr()
    load_encoder(path, "cpu")
    assert capfd.readouterr().err == ""
    # Then a bar of another program looks as before
    list(transformers_logging.tqdm([1], desc="Loading weights"))
    assert "Loading weights: 100%" in capfd.readouterr().err


# Names


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("cross-encoder/ms-marco-MiniLM-L-6-v2", "ms-marco-MiniLM-L-6-v2"),
        ("bundled", "bundled"),
        ("/models/mine", "mine"),
        ("/models/mine/", "mine"),
        ("./mine//", "mine"),
        ("/", "/"),
    ],
)
def test_the_short_name_is_without_owner_or_folder(model: str, short: str) -> None:
    assert short_name(model) == short


def test_the_bundled_model_is_the_one_of_the_package_wherever_the_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundled").mkdir()
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("bundled", "cpu")
    assert encoder.num_labels == 1
    assert encoder.model.config.hidden_size == 128


def test_a_relative_path_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.bert(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert load_encoder("mine", "cpu").model.config.hidden_size == 32


def test_a_filled_cache_is_used_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a cache as the hub's client lays it out
    stored = tmp_path / "models--nobody--never-published"
    snapshot = stored / "snapshots" / ("0" * 40)
    tiny_models.bert(snapshot)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("0" * 40)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    # When a model is requested that is nowhere else
    encoder = load_encoder("nobody/never-published", "cpu")
    # Then it is the cached one
    assert encoder.model.config.hidden_size == 32


def test_loading_is_logged_in_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "worker.engine.checkpoint"):
        load_encoder("bundled", "cpu")
    loading, loaded = (
        record.getMessage()
        for record in caplog.records
        if record.name == "worker.engine.checkpoint"
    )
    assert loading == "Loading cross-encoder model: bundled"
    assert re.fullmatch(r"Cross-encoder loaded successfully in \d+\.\d{3}s", loaded)


def test_a_fast_engine_does_not_keep_the_model_that_it_was_made_from() -> None:
    others = [each for each in gc.get_objects() if isinstance(each, CrossEncoder)]
    scorer = load("bundled", threads=1, max_batch_tokens=512)
    kept = [each for each in gc.get_objects() if isinstance(each, CrossEncoder)]
    assert all(any(each is other for other in others) for each in kept)
    assert scorer.score([("a", "b")])


# Models that cannot be loaded


def test_where_the_bundled_model_is_not_installed_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rerankq_bundled_model", None)  # makes the import fail
    error = refused("bundled")
    assert "'bundled'" in str(error)
    assert "pip install ./rerankq_bundled_model" in str(error)


def test_a_missing_path_is_named_with_the_ways_out() -> None:
    error = refused("/nowhere/at-all")
    assert "'/nowhere/at-all'" in str(error)
    assert "the folder does not exist. Set CROSS_ENCODER_MODEL to another model: " in str(error)
    assert isinstance(error.__cause__, FileNotFoundError)


def test_an_empty_folder_is_named_with_the_ways_out(tmp_path: Path) -> None:
    error = refused(str(tmp_path))
    assert repr(str(tmp_path)) in str(error)
    assert "it has no config.json" in str(error)
    assert "'bundled'" in str(error)
    assert error.__cause__ is not None


def cut_in_half(weights: Path) -> None:
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])


def overwrite(weights: Path) -> None:
    weights.write_bytes(b"no tensors here, but long enough to have a header")


@pytest.mark.parametrize("spoil", [cut_in_half, overwrite, Path.unlink])
def test_a_folder_with_spoilt_weights_is_named(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    path = tiny_models.bert(tmp_path)
    spoil(tmp_path / "model.safetensors")
    error = refused(path)
    assert repr(path) in str(error)
    assert error.__cause__ is not None


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    # Every embedding model is such: its head, and so the ranking, would be random.
    path = tiny_models.bert(tmp_path, headless=True)
    assert path in str(refused(path))


def test_a_model_with_several_scores_a_pair_is_no_reranker(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path / "three", num_labels=3)
    with pytest.raises(
        ModelUnavailable, match=r"three' cannot be used: it returns 3 scores per pair"
    ):
        ScorerCache().get(path, "cpu", 1, 512)


@pytest.mark.parametrize(
    "missing", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")]
)
def test_a_folder_without_the_models_words_is_refused(
    tmp_path: Path, missing: tuple[str, ...]
) -> None:
    # Every text would become unknown tokens, and every ranking would be meaningless.
    path = tiny_models.bert(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    assert path in str(refused(path))


def test_the_error_names_the_cache_that_was_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "cache"))
    assert f"in {tmp_path / 'cache'}," in str(refused("nobody/never-published"))


def test_the_error_is_one_line(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path)
    (tmp_path / "config.json").write_text("{\n\nnot json")
    assert "\n" not in str(refused(path))


def in_no_hub(error: str) -> bool:
    return (
        "'nobody/never-published'" in error
        and "in the Hugging Face cache, and on the Hugging Face hub" in error
        and all(way in error for way in WAYS_OUT)
    )


def test_an_unknown_model_is_named_with_the_ways_out_where_the_hub_is_not_to_be_asked() -> None:
    assert huggingface_hub.constants.HF_HUB_OFFLINE  # as in the environment of all tests
    error = str(refused("nobody/never-published"))
    assert in_no_hub(error), error


def test_an_unknown_model_is_named_with_the_ways_out_where_the_hub_cannot_be_reached(
    fresh_engine: FreshEngine,
) -> None:
    assert in_no_hub(fresh_engine.error), fresh_engine.error


# Code that comes with a model


@pytest.mark.parametrize("model_type", ["bert", "strange"])
def test_code_named_in_a_models_config_is_never_run(tmp_path: Path, model_type: str) -> None:
    path = tiny_models.bert(tmp_path / "model")
    marker = tmp_path / "was-run"
    (tmp_path / "model" / "theirs.py").write_text(marker_code(marker))
    tiny_models.edit_json(
        tmp_path / "model" / "config.json",
        model_type=model_type,
        auto_map={
            "AutoConfig": "theirs.Config",
            "AutoModelForSequenceClassification": "theirs.Model",
        },
    )
    if model_type == "bert":  # transformers has its own code for this type
        assert len(load(path).score([("a", "b")])) == 1
    else:
        error = str(refused(path))
        assert "rerankq does not run code from a model" in error
        assert "trust_remote_code" not in error
    assert not marker.exists()


def test_code_named_in_a_list_of_modules_is_never_run(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path / "model")
    marker = tmp_path / "was-run"
    (tmp_path / "model" / "theirs.py").write_text(marker_code(marker))
    (tmp_path / "model" / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "theirs.Model"}])
    )
    (tmp_path / "model" / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "CrossEncoder"})
    )
    error = str(refused(path))
    assert "rerankq does not run code from a model" in error
    assert "trust_remote_code" not in error
    assert not marker.exists()


class LeavesTrace:
    """Unpickling it would run `touch`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_code_in_pickled_weights_is_never_run(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path / "model")
    marker = tmp_path / "was-run"
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({"weight": LeavesTrace(marker)}, tmp_path / "model" / "pytorch_model.bin")
    assert path in str(refused(path))
    assert not marker.exists()


# Once in a process


def loadings(caplog: pytest.LogCaptureFixture) -> int:
    return sum("Loading cross-encoder" in record.getMessage() for record in caplog.records)


def test_a_model_is_loaded_once_however_many_threads_ask(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, scorers = tiny_models.bert(tmp_path), ScorerCache()
    together = threading.Barrier(8)

    def get(_: int) -> Scorer:
        together.wait()
        return scorers.get(path, "cpu", 1, 512)

    with caplog.at_level(logging.INFO), ThreadPoolExecutor(8) as threads:
        found = list(threads.map(get, range(8)))
    assert all(scorer is found[0] for scorer in found)
    assert loadings(caplog) == 1


def test_each_name_has_its_own_model(tmp_path: Path) -> None:
    scorers = ScorerCache()
    one = scorers.get(tiny_models.bert(tmp_path / "one"), "cpu", 1, 512)
    other = scorers.get(tiny_models.bert(tmp_path / "other", hidden_size=48), "cpu", 1, 512)
    assert one is not other
    assert one.score([("a", "b")]) != other.score([("a", "b")])


def test_a_model_that_did_not_load_is_tried_again(tmp_path: Path) -> None:
    path, scorers = str(tmp_path / "late"), ScorerCache()
    with pytest.raises(ModelUnavailable):
        scorers.get(path, "cpu", 1, 512)
    shutil.copytree(bundled_path(), path)
    assert scorers.get(path, "cpu", 1, 512).model == path
