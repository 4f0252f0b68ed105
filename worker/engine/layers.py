"""Parts of the networks of all model families: normalisation, masks, and products per head.

Letters in shapes are those of `worker.engine.post_norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.linear import Linear
from worker.engine.packing import Batch, Group

#: The rows of the last layer, one per pair, are filled up to a multiple of this. Its products per
#: head are computed for this many rows at a time, because MKL's order of summation depends on the
#: number of rows.
PAIRS_AT_ONCE = 16


class Network(Protocol):
    """A model's forward pass over a batch."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits [N] of the batch's pairs in their order, float32 on the CPU."""
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


def padding_mask(group: Group, like: Tensor) -> Tensor | None:
    """Return the term [n, 1, 1, L] that hides padding when added to attention scores."""
    if group.lengths is None:
        return None
    lengths = torch.tensor(group.lengths, device=like.device)
    hidden = torch.arange(group.length, device=like.device) >= lengths[:, None]  # [n, L]
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(hidden, -torch.inf)[:, None, None]


def window_masks(
    groups: Sequence[Group], window: int, padding: Sequence[Tensor | None], like: Tensor
) -> list[Tensor | None]:
    """Return the mask [n or 1, 1, L, L] of each group whose tokens see a window, and `padding`.

    A token sees `window` tokens to each side. The mask of a group that fits into the window is its
    `padding`.
    """
    longest = max(group.length for group in groups)
    places = torch.arange(longest, device=like.device)
    far = (places[:, None] - places).abs() > window  # [L, L]
    mask = torch.zeros(far.shape, dtype=like.dtype, device=like.device)
    mask = mask.masked_fill_(far, -torch.inf)[None, None]
    masks: list[Tensor | None] = []
    for group, hidden in zip(groups, padding, strict=True):
        if group.length > window + 1:
            own = mask[..., : group.length, : group.length]
            masks.append(own if hidden is None else own + hidden)
        else:
            masks.append(hidden)
    return masks


def fill_up(parts: Sequence[Tensor]) -> Tensor:
    """Return the concatenated parts, with rows of zeros up to a multiple of `PAIRS_AT_ONCE`."""
    rows = sum(map(len, parts))
    return torch.cat([*parts, parts[0].new_zeros(-rows % PAIRS_AT_ONCE, parts[0].shape[1])])


def by_head(x: Tensor, weights: Tensor) -> Tensor:
    """Return x [N', H, in] times each head's weights [H, in, out], of shape [N', H, out]."""
    x = x.transpose(0, 1)  # [H, N', in]
    at_once = PAIRS_AT_ONCE if x.device.type == "cpu" else x.shape[1]
    parts = [torch.bmm(part, weights) for part in torch.split(x, at_once, dim=1)]
    return torch.cat(parts, dim=1).transpose(0, 1)


def linear_of(layer: nn.Linear, kind: type[Linear]) -> Linear:
    """Return a layer of `kind` with the weights of torch's; a missing bias is zero."""
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    return kind(weight, bias)
