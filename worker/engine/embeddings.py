"""Embeddings of tokens and of their positions, as in BERT and its descendants.

Networks keep the functions of this module, so none of them is a lambda, which cannot be written to
a file (see `worker.engine.exchange`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.layers import Norm, linear_of, to_device
from worker.engine.linear import Linear
from worker.engine.packing import Batch, Ids


class Embeddings:
    """The norm of the sum of a token's embedding and that of its place.

    `places` [P, h] holds an embedding for each place, and `place_of` returns the place of each
    token of a batch.
    """

    def __init__(
        self,
        words: nn.Embedding,
        places: Tensor,
        norm: nn.LayerNorm,
        place_of: Callable[[Batch], Ids],
    ) -> None:
        self._words = words.weight.detach()  # [vocabulary, h]
        self._places = places
        self._norm = Norm(norm)
        self._place_of = place_of

    def __call__(self, batch: Batch) -> Tensor:
        """Return the embeddings [T, h] of a batch."""
        device = self._words.device
        ids = to_device(batch.ids, device)  # [T]
        places = to_device(self._place_of(batch), device)
        x = functional.embedding(ids, self._words) + functional.embedding(places, self._places)
        return self._norm(x)


def with_types(
    words: nn.Embedding, positions: nn.Embedding, types: nn.Embedding, norm: nn.LayerNorm
) -> Embeddings:
    """Return embeddings whose places are combinations of a position and one of two types."""
    count = len(positions.weight)
    places = types.weight.detach()[:, None] + positions.weight.detach()  # [2, positions, h]
    return Embeddings(words, places.view(2 * count, -1), norm, partial(_places_of_types, count))


def _places_of_types(count: int, batch: Batch) -> Ids:
    return batch.positions + batch.types * count


def places_by_position(batch: Batch) -> Ids:
    """Return the position of each token in its pair."""
    return batch.positions


def places_after_padding(padding_id: int, batch: Batch) -> Ids:
    """Return the position of each token: the padding's id for padding, otherwise counted after it.

    Padding tokens that a text contains do not count, as in transformers'
    `create_position_ids_from_input_ids`.
    """
    is_padding = batch.ids == padding_id
    skipped = np.cumsum(is_padding)
    before = np.concatenate([np.zeros(1, skipped.dtype), skipped])
    starts = np.arange(len(batch.ids)) - batch.positions
    counted = batch.positions + 1 - (skipped - before[starts])
    places = np.where(is_padding, padding_id, padding_id + counted)
    return places.astype(np.int32)


class ProjectedEmbeddings:
    """Embeddings that are projected to the width of the layers."""

    def __init__(
        self, embed: Callable[[Batch], Tensor], projection: nn.Linear, linear: type[Linear]
    ) -> None:
        self._embed = embed
        self._projection = linear_of(projection, linear)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the embeddings [T, h] of a batch."""
        return self._projection(self._embed(batch))
