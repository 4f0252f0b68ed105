"""All kinds of linear layers compute the same; the one in 8 bits differs by a few percent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.linear import (
    INT8_TOLERANCE,
    Int8Linear,
    Linear,
    PackedLinear,
    error_of_int8,
    seven_bits,
)

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
exact = pytest.mark.parametrize("kind", [Linear, PackedLinear])
every_kind = pytest.mark.parametrize("kind", [Linear, PackedLinear, Int8Linear])


def numbers(rows: int, wide: int, out: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, weight, bias and residual for which results are about 1."""
    torch.manual_seed(rows + wide + out)
    weight = torch.randn(out, wide) / wide**0.5
    return torch.randn(rows, wide), weight, torch.randn(out), torch.randn(rows, out)


def close(result: Tensor, expected: Tensor) -> bool:
    return result.shape == expected.shape and bool((result - expected).abs().max() < 1e-5)


def percent_off(result: Tensor, expected: Tensor) -> float:
    return float(100 * (result - expected).norm() / expected.norm())


@exact
@shapes
def test_a_layer_is_a_product_and_a_bias(
    kind: type[Linear], rows: int, wide: int, out: int
) -> None:
    x, weight, bias, _ = numbers(rows, wide, out)
    assert close(kind(weight, bias)(x), x @ weight.T + bias)


@exact
@shapes
def test_gelu_is_the_exact_one_of_the_layers_output(
    kind: type[Linear], rows: int, wide: int, out: int
) -> None:
    x, weight, bias, _ = numbers(rows, wide, out)
    y = x @ weight.T + bias
    expected = y * (1 + torch.erf(y / 2**0.5)) / 2
    assert close(kind(weight, bias).gelu(x), expected)


@exact
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


@shapes
@pytest.mark.parametrize("then", ["nothing", "gelu", "add"])
def test_eight_bits_are_within_a_few_percent(rows: int, wide: int, out: int, then: str) -> None:
    x, weight, bias, residual = numbers(rows, wide, out)
    layer = Int8Linear(weight, bias)
    y = functional.linear(x, weight, bias)
    result, expected = {
        "nothing": lambda: (layer(x), y),
        "gelu": lambda: (layer.gelu(x), functional.gelu(y)),
        "add": lambda: (layer.add(x, residual), y + residual),
    }[then]()
    assert result.shape == expected.shape
    assert percent_off(result, expected) < 3


def test_in_eight_bits_each_output_has_a_scale_of_its_own() -> None:
    # With one scale for all, the small rows would consist of zeros.
    x, weight, _, _ = numbers(32, 64, 48)
    sizes = torch.logspace(-4, 2, 48)
    result = Int8Linear(weight * sizes[:, None], torch.zeros(48))(x)
    assert percent_off(result / sizes, x @ weight.T) < 3


def test_in_eight_bits_an_output_without_weights_is_its_bias() -> None:
    x, weight, bias, _ = numbers(16, 32, 4)
    weight[1] = 0
    assert torch.equal(Int8Linear(weight, bias)(x)[:, 1], bias[1].expand(16))


def test_in_eight_bits_zeros_give_the_bias() -> None:
    x, weight, bias, _ = numbers(16, 32, 4)
    assert close(Int8Linear(weight, bias)(torch.zeros_like(x)), bias.expand(16, 4))


def test_packing_eight_bits_leaves_torchs_choice_of_kernels_as_it_was() -> None:
    _, weight, bias, _ = numbers(1, 8, 8)
    before = torch.backends.quantized.engine
    Int8Linear(weight, bias)
    assert torch.backends.quantized.engine == before
    with pytest.raises(RuntimeError):
        Int8Linear(weight, bias[:3])
    assert torch.backends.quantized.engine == before


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize(("wide", "out"), [(2, 3), (33, 11), (128, 512), (1_536, 384)])
@pytest.mark.parametrize("rows", [1, 3, 16, 100, 1_024])
def test_in_eight_bits_sums_at_their_extremes_are_exact(
    rows: int, wide: int, out: int, bits: int
) -> None:
    # Given weights at both ends of 8 bits, and activations that are whole numbers of 7 or 8 bits
    weight = torch.tensor([127.0, -127.0]).repeat(out)[:out, None].repeat(1, wide)
    x = torch.full((rows, wide), 2.0**bits - 1)
    # Then no sum overflows: activations of 7 bits are exact, those of 8 rounded to 7 at the most
    layer = Int8Linear(weight, torch.zeros(out))
    assert percent_off(layer(x), x @ weight.T) < 1e-3
    x[:, ::2] = -x[:, ::2]
    assert percent_off(layer(x[:, ::2].repeat(1, 2)[:, :wide]), -x.abs() @ weight.T) < 1e-3


def test_where_seven_bits_are_needed_is_found_by_trying() -> None:
    needed = error_of_int8(64, 64, seven_bits=False) > INT8_TOLERANCE
    assert seven_bits(64, 64) == needed
    assert error_of_int8(64, 64, seven_bits=True) <= INT8_TOLERANCE


def test_an_engine_that_torch_lacks_is_a_refusal_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a torch that has no such operators at all
    monkeypatch.delattr(torch, "quantize_per_channel")
    # Then a shape that was never tried before is refused
    with pytest.raises(ValueError, match=r"torch .* does not support int8 products .*quantize_per"):
        seven_bits(10, 9)
