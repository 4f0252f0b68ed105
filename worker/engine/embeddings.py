"""Embeddings of tokens and of their positions, as in BERT and its descendants."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from worker.engine.layers import Norm, to_device
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
    return Embeddings(
        words, places.view(2 * count, -1), norm, lambda batch: batch.positions + batch.types * count
    )
