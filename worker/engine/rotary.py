"""Rotary positions: queries and keys are rotated by an angle that grows with the position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Rotary:
    """The rotation of one kind of layer, with the frequencies of transformers' `module`."""

    def __init__(self, module: Any, layer_type: str) -> None:
        self._frequencies: Tensor = getattr(module, f"{layer_type}_inv_freq").float()  # [d / 2]
        self._scale: float = getattr(module, f"{layer_type}_attention_scaling")

    def __call__(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return x [T, H, d], each row rotated for its position; float32 inside."""
        angles = positions[:, None] * self._frequencies  # [T, d / 2]
        cos = (angles.cos() * self._scale)[:, None]  # [T, 1, d / 2]
        sin = (angles.sin() * self._scale)[:, None]
        first, second = x.float().chunk(2, dim=-1)
        rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return rotated.to(x.dtype)
