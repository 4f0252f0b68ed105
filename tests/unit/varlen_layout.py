"""The layout of a GPU on a CPU, with attention in its plainest form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worker.engine import varlen
from worker.engine.pair_columns import PairColumns
from worker.engine.pair_layout import PairLayout, PairTokens
from worker.engine.varlen import Sequences, VarlenBatch, VarlenFunction


def reference(
    q: Tensor, k: Tensor, v: Tensor, of_q: Sequences, of_k: Sequences, window: int | None
) -> Tensor:
    """Compute attention as it is defined, for one pair and one head at a time, in float32.

    As in flash-attn, the last query of a pair is aligned with its last key.
    """
    assert of_q.starts.dtype == of_k.starts.dtype == torch.int32
    context = torch.full(q.shape, torch.nan)
    starts = zip(of_q.starts[:-1].tolist(), of_k.starts[:-1].tolist(), strict=True)
    for pair, (first_q, first_k) in enumerate(starts):
        end_q, end_k = int(of_q.starts[pair + 1]), int(of_k.starts[pair + 1])
        assert end_q - first_q == of_q.lengths[pair] <= of_q.longest
        assert end_k - first_k == of_k.lengths[pair] <= of_k.longest
        shift = (end_k - first_k) - (end_q - first_q)
        for head in range(q.shape[1]):
            own_q, own_k, own_v = (
                each[first:end, head].float()
                for each, first, end in (
                    (q, first_q, end_q),
                    (k, first_k, end_k),
                    (v, first_k, end_k),
                )
            )
            scores = own_q @ own_k.T / q.shape[-1] ** 0.5
            if window is not None:
                places = torch.arange(len(own_q))[:, None] + shift
                far = (places - torch.arange(len(own_k))).abs() > window
                scores = scores.masked_fill(far, -torch.inf)
            context[first_q:end_q, head] = scores.softmax(-1) @ own_v
    return context.to(q.dtype)


def columns(pairs: Sequence[PairTokens]) -> PairColumns:
    """Return the columns of some pairs."""
    return PairColumns(
        [pair.query.tobytes() for pair in pairs],
        [pair.document.tobytes() for pair in pairs],
        np.array([len(pair.query) for pair in pairs], np.int32),
        np.array([pair.length for pair in pairs], np.int32),
        np.array([pair.lost for pair in pairs], np.int32),
    )


def lay_out(
    pairs: Sequence[PairTokens], layout: PairLayout, function: VarlenFunction = reference
) -> VarlenBatch:
    """Return the batch of these pairs, in their order."""
    return varlen.lay_out(columns(pairs), range(len(pairs)), layout, function)
