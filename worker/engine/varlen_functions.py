"""Functions for attention in sequences of different lengths, best first.

Each is verified against `CrossEncoder.predict` before it scores (see `worker.engine.choice`). If a
version of a library lacks one, or if one does not support a precision, a head size or a window, the
next one takes its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.layers import to_device
from worker.engine.packing import Ids
from worker.engine.sdpa import without_cudnn
from worker.engine.varlen import Sequences, VarlenFunction

#: Pairs of one group get at most this much padding, in tokens: many small groups cost more time.
PADDING_TOKENS = 31


def torch_varlen() -> VarlenFunction:
    """Return torch's own function. Raises `ImportError` before torch 2.10."""
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.10 has no windows.
    has_windows = "window_size" in inspect.signature(varlen_attn).parameters

    def attend(
        q: Tensor, k: Tensor, v: Tensor, of_q: Sequences, of_k: Sequences, window: int | None
    ) -> Tensor:
        where = (of_q.starts, of_k.starts, of_q.longest, of_k.longest)
        if window is None:
            return _only_tensor(varlen_attn(q, k, v, *where))
        if not has_windows:
            raise NotImplementedError(f"torch {torch.__version__} has no windows in varlen_attn")
        return _only_tensor(varlen_attn(q, k, v, *where, window_size=(window, window)))

    return attend


def flash_attention() -> VarlenFunction:
    """Return the function of the package flash-attn. Raises `ImportError` if it is missing."""
    from flash_attn import flash_attn_varlen_func

    def attend(
        q: Tensor, k: Tensor, v: Tensor, of_q: Sequences, of_k: Sequences, window: int | None
    ) -> Tensor:
        where = (of_q.starts, of_k.starts, of_q.longest, of_k.longest)
        sides = (-1, -1) if window is None else (window, window)
        return _only_tensor(flash_attn_varlen_func(q, k, v, *where, window_size=sides))

    return attend


def padded() -> VarlenFunction:
    """Return a function that pads groups of pairs, for any device, precision and head size."""
    return _attend_padded


#: The functions to try on a GPU, by the name that a log shows.
FUNCTIONS: dict[str, Callable[[], VarlenFunction]] = {
    "kernels of torch": torch_varlen,
    "kernels of flash-attn": flash_attention,
    "padded groups": padded,
}


def _attend_padded(
    q: Tensor, k: Tensor, v: Tensor, of_q: Sequences, of_k: Sequences, window: int | None
) -> Tensor:
    contexts = []
    for first, end in _groups(of_k.lengths):
        queries, keys = (_padding(each, first, end, q.device) for each in (of_q, of_k))
        mask = None if keys.present is None else keys.present[:, None, None]  # [n, 1, 1, L]
        if window is not None and keys.rows.shape[1] > window + 1:
            mask = _within(window, queries, keys, mask)
        own_q, own_k, own_v = (
            each.transpose(1, 2)  # [n, H, l or L, d]
            for each in (q[queries.rows], k[keys.rows], v[keys.rows])
        )
        with without_cudnn(q.device):
            seen = functional.scaled_dot_product_attention(own_q, own_k, own_v, attn_mask=mask)
        contexts.append(seen.transpose(1, 2).flatten(0, 1).index_select(0, queries.kept))
    return torch.cat(contexts)


def _within(window: int, queries: Padding, keys: Padding, mask: Tensor | None) -> Tensor:
    """Return a mask [1 or n, 1, L, L] of the keys in the window of each query, if in `mask` too."""
    places = torch.arange(keys.rows.shape[1], device=keys.rows.device)
    near = ((places[:, None] - places).abs() <= window)[None, None]
    if mask is None or queries.present is None:
        return near
    # A row of padding may have nothing but padding in its window. It must see something, or it
    # would be NaN.
    return near & mask | ~queries.present[:, None, :, None]


def _groups(lengths: Ids) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each group of adjacent pairs of about the same length."""
    first, shortest, longest = 0, lengths[0], lengths[0]
    for place, length in enumerate(lengths):
        shortest, longest = min(shortest, length), max(longest, length)
        if longest - shortest > PADDING_TOKENS:
            yield first, place
            first, shortest, longest = place, length, length
    yield first, len(lengths)


class Padding(NamedTuple):
    """Adjacent sequences, padded to the same length."""

    #: The row [n, L] of each token; padding repeats the last.
    rows: Tensor
    #: Whether each of them [n, L] is not padding; None if there is none.
    present: Tensor | None
    #: The places of these among all n x L.
    kept: Tensor


def _padding(sequences: Sequences, first: int, end: int, device: torch.device) -> Padding:
    """Return the padding of some sequences, which all layers share."""
    if (first, end) not in sequences.paddings:
        sequences.paddings[first, end] = _make_padding(sequences.lengths, first, end, device)
    padding: Padding = sequences.paddings[first, end]
    return padding


def _make_padding(all_lengths: Ids, first: int, end: int, device: torch.device) -> Padding:
    lengths = all_lengths[first:end]
    begins = all_lengths[:first].sum() + np.cumsum(lengths) - lengths
    places = np.arange(lengths.max())
    rows = begins[:, None] + np.minimum(places, lengths[:, None] - 1)
    present = places < lengths[:, None]
    kept = np.flatnonzero(present)
    return Padding(
        to_device(rows.astype(np.int32), device),
        None if present.all() else to_device(present.astype(np.int32), device) > 0,
        to_device(kept.astype(np.int32), device),
    )


def _only_tensor(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the context, which some versions of a library return with more."""
    return result[0] if isinstance(result, tuple) else result
