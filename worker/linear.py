"""Linear layers for inference: torch's own, oneDNN's with packed weights, and int8.

All take x of shape [tokens, in] and give [tokens, out]. What follows a layer in a transformer, a
GELU or the addition of a residual, is part of the call, because the faster kinds do it while the
values are still in registers.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: The number of rows that oneDNN packs for. Any layout for 32 rows or more measured the same.
PACK_FOR_ROWS = 1024


class Linear:
    """torch's own, in the weights' precision and on their device."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight  # [out, in]
        self.bias = bias  # [out]

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of the layer's output, in its exact form."""
        return functional.gelu(self(x))

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The layer's output + residual of shape [tokens, out]."""
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
    """Weights in 8 bits, one scale an output; activations in 8 bits, one scale a batch. Not exact.

    torch's dynamic quantisation, on the fastest of its kernels for x86.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._packed = _quantised(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed)
        return result

    def gelu(self, x: Tensor) -> Tensor:
        y = self(x)
        return torch.ops.aten.gelu_(y)  # type: ignore[no-any-return]


def _quantised(weight: Tensor, bias: Tensor) -> Any:
    scales = weight.abs().amax(1).clamp(min=1e-12).double() / 127  # [out]
    zeros = torch.zeros(len(scales), dtype=torch.long)
    with warnings.catch_warnings():
        # torch means to replace these tensors one day; `worker.engines` looks whether it has.
        warnings.simplefilter("ignore", UserWarning)
        eight_bit = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        return torch.ops.quantized.linear_prepack(eight_bit, bias.contiguous())
    finally:
        torch.backends.quantized.engine = before
