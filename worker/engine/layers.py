"""Parts of the networks of all model families: what a network is, its norms and inputs.

Letters in shapes are those of `worker.engine.post_norm`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.linear import Linear
from worker.engine.packing import Batch, Ids


class Network(Protocol):
    """A model's forward pass over a batch."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits [N] of the batch's pairs in their order, in float32 on its device."""
        ...


class Norm:
    """LayerNorm over [.., h]."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight = norm.weight.detach()
        # Some models train their norms without a bias.
        self._bias = None if norm.bias is None else norm.bias.detach()
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


def linear_of(layer: nn.Linear, kind: type[Linear]) -> Linear:
    """Return a layer of `kind` with the weights of torch's; a missing bias is zero."""
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    return kind(weight, bias)


def to_device(array: Ids, device: torch.device) -> Tensor:
    """Return a tensor with the array's numbers; a GPU gets them without waiting for its work."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        # A copy from other memory would wait. torch reuses this memory only after the copy.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
