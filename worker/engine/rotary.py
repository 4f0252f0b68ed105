"""Rotary positions: queries and keys are rotated by angles that grow with the position."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """The cosine and sine [T, 1, d / 2] of the angles of each row, in float32."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return x [T, H, d], rotated; computed in float32, as transformers does."""
        half = x.shape[-1] // 2
        single = x.float()
        first, second = single[..., :half], single[..., half:]
        rotated = torch.empty(single.shape, dtype=single.dtype, device=single.device)
        torch.mul(first, self.cos, out=rotated[..., :half]).addcmul_(second, self.sin, value=-1)
        torch.mul(second, self.cos, out=rotated[..., half:]).addcmul_(first, self.sin)
        return rotated.to(x.dtype)


class Rotary:
    """The angles of one kind of layer, with the frequencies of transformers' `module`."""

    def __init__(self, module: Any, layer_type: str) -> None:
        self._frequencies: Tensor = getattr(module, f"{layer_type}_inv_freq").float()  # [d / 2]
        self._scale: float = getattr(module, f"{layer_type}_attention_scaling")

    def rotation(self, positions: Tensor) -> Rotation:
        """Return the rotation of rows at these positions [T]."""
        angles = (positions[:, None] * self._frequencies)[:, None]  # [T, 1, d / 2]
        return Rotation(angles.cos() * self._scale, angles.sin() * self._scale)
