"""Linear layers for inference: torch's own, oneDNN's with packed weights, and int8.

All take x of shape [tokens, in] and return [tokens, out]. The call includes the operation that
follows the layer in a transformer, GELU or adding a residual, because the faster kinds do that
while the values are still in registers.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine import memory

#: Maximum relative error of integer products in 8 bits: rounding only.
INT8_TOLERANCE = 1e-6
#: Numbers of rows to test with, because the number of rows selects the kernel.
TRIED_ROWS = (16, 512)

#: The number of rows that oneDNN packs for. All layouts for 32 rows or more were equally fast.
PACK_FOR_ROWS = 1024


class Linear:
    """torch's own layer, in the precision and on the device of the weights."""

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
        """Return the sum of the layer's output and `residual`, both of shape [tokens, out]."""
        return self(x).add_(residual)


class PackedLinear(Linear):
    """oneDNN's layer for float32 on a CPU: packed weights, with GELU and residual fused in.

    On AVX-512 it reaches 110 GFLOP/s per core where torch's own reaches 98, and GELU and addition
    cost almost nothing. torch.compile uses the same operators.
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
    """8-bit weights with a scale per output, and 8- or 7-bit activations with a scale per batch.

    This is torch's dynamic quantisation on oneDNN's kernels. Without VNNI instructions, these add
    products of unsigned and signed bytes in 16 bits, which overflow with 8-bit activations but not
    with 7-bit ones. Each shape of a layer is tested for which of the two the CPU computes
    correctly. Raises `ValueError` if it computes neither correctly.
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
    """Return whether activations must be reduced to 7 bits for products to be correct.

    Raises `ValueError` if 7-bit products are wrong too, or if the CPU has no such products.
    """
    try:
        if error_of_int8(wide, out, seven_bits=False) <= INT8_TOLERANCE:
            return False
        error = error_of_int8(wide, out, seven_bits=True)
    except (AttributeError, NotImplementedError, RuntimeError) as reason:
        if memory.ran_out(reason):
            raise
        raise ValueError(
            f"torch {torch.__version__} does not support int8 products on this machine: {reason}"
        ) from reason
    if not error <= INT8_TOLERANCE:
        raise ValueError(f"int8 products on this CPU are wrong by up to {error:.1%}")
    return True


def error_of_int8(wide: int, out: int, *, seven_bits: bool) -> float:
    """Return the relative error of products whose sums are at their extremes.

    Weights and activations are integers that quantisation with a scale of 1 does not change, so the
    exact product is known.
    """
    weight = torch.tensor([127.0, -127.0]).repeat(-(-out // 2))[:out, None].repeat(1, wide)
    top = 127 if seven_bits else 255
    packed = _quantised(weight, torch.zeros(out))
    worst = 0.0
    for lowest in (0, -(top + 1) // 2):  # zero points at the end and in the middle of the range
        highest = top + lowest
        # Each row covers the whole range, with most of its activations at one end.
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
        # torch plans to replace these tensors.
        warnings.simplefilter("ignore", UserWarning)
        eight_bit = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        return torch.ops.quantized.linear_prepack(eight_bit, bias.contiguous())
    finally:
        torch.backends.quantized.engine = before
