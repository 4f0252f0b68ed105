"""Settings of torch's `scaled_dot_product_attention`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

_OTHERS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@contextmanager
def without_cudnn(device: torch.device) -> Iterator[None]:
    """Let it use any implementation but cuDNN's on a GPU, and restore the setting afterwards.

    cuDNN takes about 0.1 s to prepare for each new number and length of pairs.
    """
    if device.type != "cuda":
        yield
        return
    with sdpa_kernel(_OTHERS):
        yield
