"""Measure the ceiling: how fast this machine multiplies float32 matrices of a model's shapes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.shapes import SHAPES, linear_shapes
from benchmarks.work import Pair

Product = Callable[[], object]

#: Rows of a product: a batch of as many tokens, enough for both libraries to reach full speed.
ROWS = 1024
#: Minimum measuring time of each product, in seconds.
AT_LEAST_S = 0.1


def load(folder: Path, threads: int) -> Callable[[list[Pair]], list[float]]:
    """Return a function that measures GFLOP/s as [linear, packed], ignoring its argument.

    `linear` is torch.nn.functional.linear, which every model uses (MKL's sgemm). `packed` is
    oneDNN with weights that are reordered once, as in torch.compile. The shapes of a layer are
    weighted by FLOPs: all FLOPs of a layer divided by the time of its four products.
    """
    import torch

    torch.set_num_threads(threads)
    shape = SHAPES[folder.name]
    flops = sum(2 * ROWS * inputs * outputs for inputs, outputs in linear_shapes(shape))
    linear: list[Product] = []
    packed: list[Product] = []
    for inputs, outputs in linear_shapes(shape):
        x, w, b = (torch.randn(*size) for size in ((ROWS, inputs), (outputs, inputs), (outputs,)))
        reordered = torch.ops.mkldnn._reorder_linear_weight(w, ROWS)
        linear.append(partial(torch.nn.functional.linear, x, w, b))
        packed.append(partial(torch.ops.mkldnn._linear_pointwise, x, reordered, b, "none", [], ""))

    @torch.inference_mode()
    def measure(_: list[Pair]) -> list[float]:
        return [flops / sum(map(_seconds, products)) / 1e9 for products in (linear, packed)]

    return measure


def _seconds(product: Product) -> float:
    """Return the mean seconds of one product, over `AT_LEAST_S`."""
    product()
    began = time.perf_counter()
    times = 0
    while (elapsed := time.perf_counter() - began) < AT_LEAST_S:
        product()
        times += 1
    return elapsed / times
