"""Compute how many tokens fit into the memory of a GPU at once."""

from __future__ import annotations

from typing import Any

import torch

#: The share of the free memory that one batch may take: other processes and the allocator's
#: fragments need some too.
SHARE = 0.4
#: Values per token that are in memory at once, in units of the hidden and the intermediate size.
#: The first are a residual, a norm, query, key, value, rotated copies in float32, and a context.
#: The others are the two halves of a gated feed-forward layer, their activation and their product.
HIDDEN, INTERMEDIATE = 16, 4
#: Assumed where memory is unknown.
UNKNOWN_BYTES = 8 * 2**30


def bytes_per_token(model: Any) -> int:
    """Return the memory that a token takes in a network of this model, at its largest layer."""
    config = model.config
    hidden = config.hidden_size
    intermediate = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 0)
    size: int = model.dtype.itemsize
    return int((HIDDEN * hidden + INTERMEDIATE * (intermediate or 4 * hidden)) * size)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device, including what torch has reserved and does not use."""
    if device.type != "cuda":
        return UNKNOWN_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + unused)


def fitting_tokens(free: int, token_bytes: int) -> int:
    """Return the largest power of two of tokens whose memory fits into a share of `free` bytes."""
    fitting = max(1, int(free * SHARE) // token_bytes)
    return int(2 ** (fitting.bit_length() - 1))
