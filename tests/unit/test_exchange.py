"""Objects of the engine are read from a file as they were, and nothing else is."""

from __future__ import annotations

import io
import json
import math
from collections import OrderedDict
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from worker.engine import exchange
from worker.engine.backoff import BatchBudget
from worker.engine.exchange import NotExchangeable


def exchanged(made: object) -> Any:
    file = io.BytesIO()
    exchange.write(made, file)
    file.seek(0)
    return exchange.read(file)


@pytest.mark.parametrize(
    "made",
    [
        None,
        [True, -1, 0.1, math.inf, "a\n\u2028é"],
        ({"a": (1,)}, {2: {"b"}}, OrderedDict(a=1), b"\x00\xff", []),
        torch.device("cpu"),
        torch.tanh,
        nn.functional.gelu,
        BatchBudget,
    ],
)
def test_an_object_stays_what_it_was(made: object) -> None:
    read = exchanged(made)
    assert read == made
    assert type(read) is type(made)


def test_arrays_and_tensors_keep_their_bits_and_types() -> None:
    array = np.array([[np.nan, -0.0]], np.float32)
    view = torch.arange(6, dtype=torch.int16).reshape(2, 3).T

    read_array, read_view = exchanged((array, view))

    assert (read_array.tobytes(), read_array.dtype) == (array.tobytes(), array.dtype)
    assert torch.equal(read_view, view)
    assert read_view.dtype == view.dtype


def test_a_module_of_torch_computes_the_same() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    read = exchanged(partial(module, torch.ones(3)))
    assert torch.equal(read(), module(torch.ones(3)))


@pytest.mark.parametrize(
    "made",
    [json.dumps, io.BytesIO(), lambda: 0, torch.ones(1, dtype=torch.bfloat16), np.float32],
    ids=[
        "a function of others",
        "an object of others",
        "a lambda",
        "bfloat16",
        "a class of others",
    ],
)
def test_what_has_no_form_is_refused(made: object) -> None:
    with pytest.raises(NotExchangeable):
        exchange.require_exchangeable([made])


@pytest.mark.parametrize(
    "structure", [{"named": "os:system"}, {"object": ["json:JSONDecoder", {}]}]
)
def test_a_file_cannot_name_what_is_not_of_the_engine(structure: object) -> None:
    with pytest.raises(ValueError, match="is not of a package that a file can name"):
        exchange.read(io.BytesIO(json.dumps(structure).encode() + b"\n"))
