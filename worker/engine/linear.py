"""Linear layers for inference: torch's own, oneDNN's with packed weights, and int8.

All take x of shape [tokens, in] and give [tokens, out]. What follows a layer in a transformer, a
GELU or the addition of a residual, is part of the call, because the faster kinds do it while the
values are still in registers.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine import memory

#: How far products of whole numbers may be off in 8 bits, as a share of the largest: rounding.
INT8_TOLERANCE = 1e-6
#: Numbers of rows for which that is tried: kernels are chosen by it.
TRIED_ROWS = (16, 512)

#: The number of rows that oneDNN packs for. Any layout for 32 rows or more measured the same.
PACK_FOR_ROWS = 1024


class Linear:
    """torch's own, in the weights' precision and on their device."""

    #: Whether the weights keep their precision.
    exact = True

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight  # [out, in]
        self.bias = bias  # [out]

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """Return GELU of the layer's output, in its exact form."""
        return functional.gelu(self(x))

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the layer's output + residual of shape [tokens, out]."""
        return self(x).add_(residual)


class PackedLinear(Linear):
    """oneDNN's, float32 on a CPU: weights packed once, GELU and residual fused into the product.

    On AVX-512 it reaches 110 GFLOP/s a core where torch's own reaches 98, and its GELU and its
    addition cost next to nothing. These are the operators that torch.compile itself puts in.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACK_FOR_ROWS)
        super().__init__(packed, bias.contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        return self._call(x, "none", "")

    def gelu(self, x: Tensor) -> Tensor:
        return self._call(x, "gelu", "none")  # "none": not approximated

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        call = torch.ops.mkldnn._linear_pointwise.binary
        result: Tensor = call(x, residual, self.weight, self.bias, "add")
        return result

    def _call(self, x: Tensor, then: str, algorithm: str) -> Tensor:
        call = torch.ops.mkldnn._linear_pointwise
        result: Tensor = call(x, self.weight, self.bias, then, [], algorithm)
        return result


class Int8Linear(Linear):
    """Weights in 8 bits, one scale an output; activations in 8 or 7 bits, one scale a batch.

    torch's dynamic quantisation on oneDNN's kernels. Without VNNI instructions these add products
    of unsigned and signed bytes in 16 bits, which overflow with activations of 8 bits and hold
    those of 7. Which of the two a CPU computes correctly is tried for each shape of a layer. Raises
    `ValueError` if neither is.
    """

    exact = False

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        out, wide = weight.shape
        self._seven_bits = seven_bits(wide, out)
        self._packed = _quantised(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        return _product(x, self._packed, self._seven_bits)

    def gelu(self, x: Tensor) -> Tensor:
        y = self(x)
        return torch.ops.aten.gelu_(y)  # type: ignore[no-any-return]


@cache
def seven_bits(wide: int, out: int) -> bool:
    """Return whether activations have to be reduced to 7 bits for products to be correct.

    Raises `ValueError` if they are not correct even then, or if there are no such products.
    """
    try:
        if error_of_int8(wide, out, seven_bits=False) <= INT8_TOLERANCE:
            return False
        error = error_of_int8(wide, out, seven_bits=True)
    except (AttributeError, NotImplementedError, RuntimeError) as reason:
        if memory.ran_out(reason):
            raise
        raise ValueError(
            f"torch {torch.__version__} has no int8 product here: {reason}"
        ) from reason
    if not error <= INT8_TOLERANCE:
        raise ValueError(f"int8 products of this CPU are off by {error:.1%} of the largest")
    return True


def error_of_int8(wide: int, out: int, *, seven_bits: bool) -> float:
    """Return how far products are off, as a share of the largest, where sums are at their extremes.

    Weights and activations are whole numbers that quantisation keeps as they are, with scales of 1,
    so that the exact product is known.
    """
    weight = torch.tensor([127.0, -127.0]).repeat(-(-out // 2))[:out, None].repeat(1, wide)
    top = 127 if seven_bits else 255
    packed = _quantised(weight, torch.zeros(out))
    worst = 0.0
    for lowest in (0, -(top + 1) // 2):  # zero points at the end of the range, and in its middle
        highest = top + lowest
        # Each row has the whole range, and most of its activations at one end of it.
        ends = torch.tensor([highest, lowest, highest, highest, lowest, lowest]).float()
        for rows in TRIED_ROWS:
            x = ends.repeat(-(-rows // 6))[:rows, None].repeat(1, wide)
            x[0, 0], x[1, 0] = lowest, highest
            expected = x.double() @ weight.double().T
            off = (_product(x, packed, seven_bits).double() - expected).abs().max()
            worst = max(worst, float(off / expected.abs().max()))
    return worst


def _product(x: Tensor, packed: Any, seven_bits: bool) -> Tensor:
    result: Tensor = torch.ops.quantized.linear_dynamic(x, packed, seven_bits)
    return result


def _quantised(weight: Tensor, bias: Tensor) -> Any:
    scales = weight.abs().amax(1).clamp(min=1e-12).double() / 127  # [out]
    zeros = torch.zeros(len(scales), dtype=torch.long)
    with warnings.catch_warnings():
        # torch means to replace these tensors one day.
        warnings.simplefilter("ignore", UserWarning)
        eight_bit = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        return torch.ops.quantized.linear_prepack(eight_bit, bias.contiguous())
    finally:
        torch.backends.quantized.engine = before
