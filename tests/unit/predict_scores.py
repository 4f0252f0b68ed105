"""Pairs, engines that score them, and the expected scores, which are those of predict."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from worker.engine.checkpoint import load_encoder
from worker.engine.choice import choose, exact_linears
from worker.engine.fast_engine import FastEngine
from worker.engine.gpu_engine import GpuEngine
from worker.engine.predict_engine import PredictEngine
from worker.engine.protocol import Pair

TOLERANCE = 1e-4

QUERY = "how do I open a pdf"
DOCUMENTS = (
    "pdf",
    "",
    "a tool to open pdf files",
    "日本語のPDFを開く 🙂",
    "the mail server delivers messages to local users " * 6,
    "open a pdf file with a password " * 100,
    *(f"package number {number} " * (number % 5) for number in range(40)),
)
PAIRS: list[Pair] = [(QUERY, document) for document in DOCUMENTS]


def open_encoder(path: str, dtype: str | None = None) -> CrossEncoder:
    return load_encoder(path, "cpu", dtype)


def chosen(encoder: CrossEncoder) -> FastEngine | GpuEngine | PredictEngine:
    """Return the engine for a model, without measuring which settings are fastest."""
    return choose(encoder, threads=1, max_batch_tokens=512)


def fast_engine(encoder: CrossEncoder, threads: int = 1) -> FastEngine:
    return FastEngine(encoder, exact_linears(encoder)[0], threads)


@lru_cache(maxsize=2)
def reference(path: str) -> CrossEncoder:
    return CrossEncoder(path, device="cpu")


def predicted(path: str, pairs: Sequence[Pair] = PAIRS, **given: Any) -> Any:
    """Return the scores of sentence-transformers, by default with the model's own activation."""
    # Pairs of a batch are padded to its longest, so small batches are scored sooner.
    scores: Any = reference(path).predict(list(pairs), batch_size=4, **given)
    return scores


def logits(path: str, pairs: Sequence[Pair] = PAIRS) -> Any:
    return predicted(path, pairs, activation_fn=torch.nn.Identity())


def apart(one: Any, other: Any) -> float:
    """Return the largest difference between a score and its expected value."""
    assert np.shape(one) == np.shape(other)
    return float(np.max(np.abs(np.subtract(one, other))))
