"""Without a setting, a GPU scores in half precision, as long as the scores do not overflow."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from tests.unit import tiny_models
from worker.engine import precision
from worker.engine.checkpoint import _load_in_default_precision
from worker.engine.model_paths import locate

#: Products of this weight and of states around 1 exceed 65,504, the largest number of float16.
LARGE = 60_000.0


def encoder(path: str, dtype: torch.dtype) -> CrossEncoder:
    return CrossEncoder(path, device="cpu", model_kwargs={"dtype": dtype})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a model whose scores exceed the range of float16."""
    change = tiny_models.fill_head(LARGE)
    return tiny_models.bert(tmp_path_factory.mktemp("large"), change=change)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.bert(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_without_cuda_the_default_is_single_precision(device: str) -> None:
    assert precision.default(device, None) == torch.float32


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_on_cuda_it_is_half_precision_with_the_range_that_the_model_was_trained_in(
    tmp_path: Path, device: str, name: str
) -> None:
    config = tmp_path / "config.json"
    assert precision.default(device, None) == torch.float16
    for text in ("{}", "[]", "not JSON", f'{{"{name}": "float32"}}', f'{{"{name}": 16}}'):
        config.write_text(text)
        assert precision.default(device, tmp_path) == torch.float16
    config.write_text(f'{{"{name}": "bfloat16"}}')
    assert precision.default(device, tmp_path) == precision.wide(device) != torch.float16


def test_an_overflow_is_found(large: str, small: str) -> None:
    assert precision.overflows(encoder(large, torch.float16))
    assert not precision.overflows(encoder(large, torch.bfloat16))
    assert not precision.overflows(encoder(large, torch.float32))
    assert not precision.overflows(encoder(small, torch.float16))


def test_a_model_that_overflows_is_loaded_again_and_the_log_names_the_precision(
    large: str, small: str, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[torch.dtype] = []

    def load(path: str) -> CrossEncoder:
        def in_precision(dtype: torch.dtype) -> CrossEncoder:
            loaded.append(dtype)
            return encoder(path, dtype)

        return _load_in_default_precision(locate(path), "cuda", in_precision)

    with caplog.at_level(logging.WARNING, "worker.engine.checkpoint"):
        assert load(small).model.dtype == torch.float16
        assert (loaded, caplog.text) == ([torch.float16], "")
        assert load(large).model.dtype == precision.wide("cuda")
    assert loaded[1:] == [torch.float16, precision.wide("cuda")]
    assert "exceed the range of float16" in caplog.text
