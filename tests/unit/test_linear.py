"""All kinds of linear layers compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worker.engine.linear import Linear, PackedLinear

pytestmark = pytest.mark.arithmetic

#: Tokens, features in, features out.
SHAPES = [
    (1, 1, 1),
    (1, 32, 32),
    (3, 7, 5),
    (16, 128, 512),
    (17, 33, 11),
    (48, 384, 1_152),
    (1_000, 64, 96),
    (1_024, 128, 384),
    (2_064, 128, 128),
]
shapes = pytest.mark.parametrize(("rows", "wide", "out"), SHAPES)
every_kind = pytest.mark.parametrize("kind", [Linear, PackedLinear])


def numbers(rows: int, wide: int, out: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, weight, bias and residual for which results are about 1."""
    torch.manual_seed(rows + wide + out)
    weight = torch.randn(out, wide) / wide**0.5
    return torch.randn(rows, wide), weight, torch.randn(out), torch.randn(rows, out)


def close(result: Tensor, expected: Tensor) -> bool:
    return result.shape == expected.shape and bool((result - expected).abs().max() < 1e-5)


@every_kind
@shapes
def test_a_layer_is_a_product_and_a_bias(
    kind: type[Linear], rows: int, wide: int, out: int
) -> None:
    x, weight, bias, _ = numbers(rows, wide, out)
    assert close(kind(weight, bias)(x), x @ weight.T + bias)


@every_kind
@shapes
def test_gelu_is_the_exact_one_of_the_layers_output(
    kind: type[Linear], rows: int, wide: int, out: int
) -> None:
    x, weight, bias, _ = numbers(rows, wide, out)
    y = x @ weight.T + bias
    expected = y * (1 + torch.erf(y / 2**0.5)) / 2
    assert close(kind(weight, bias).gelu(x), expected)


@every_kind
@shapes
def test_a_residual_is_added_to_the_layers_output(
    kind: type[Linear], rows: int, wide: int, out: int
) -> None:
    x, weight, bias, residual = numbers(rows, wide, out)
    assert close(kind(weight, bias).add(x, residual), x @ weight.T + bias + residual)


@every_kind
def test_what_goes_in_is_left_as_it_was(kind: type[Linear]) -> None:
    x, weight, bias, residual = given = numbers(20, 32, 24)
    before = [each.clone() for each in given]
    layer = kind(weight, bias)
    layer(x)
    layer.gelu(x)
    layer.add(x, residual)
    assert all(torch.equal(each, was) for each, was in zip(given, before, strict=True))


@every_kind
def test_weights_may_be_a_view_of_others(kind: type[Linear]) -> None:
    x, weight, bias, _ = numbers(16, 32, 24)
    view = weight.T.contiguous().T
    assert not view.is_contiguous()
    twice = torch.stack([bias, bias], dim=1)[:, 0]
    assert not twice.is_contiguous()
    assert torch.equal(kind(view, twice)(x), kind(weight, bias)(x))
