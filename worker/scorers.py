"""The scorers of this process: each model is loaded once, by whoever asks first."""

from __future__ import annotations

import threading

from contract.errors import ModelUnavailable
from worker.scorer import Scorer

_scorers: dict[str, Scorer] = {}
_loading = threading.Lock()


def get(
    model: str,
    device: str,
    threads: int | None,
    max_batch_tokens: int | None,
    dtype: str | None = None,
) -> Scorer:
    """The scorer of `model`, loaded and warmed at the first call.

    Raises `ModelUnavailable`, also for a model with several scores a pair: nothing says which of
    them to rank by.
    """
    with _loading:
        if model not in _scorers:
            scorer = Scorer(model, device, threads, max_batch_tokens, dtype)
            if scorer.labels != 1:
                raise ModelUnavailable(
                    f"model {model!r} gives {scorer.labels} scores a pair; a reranker gives one"
                )
            _scorers[model] = scorer
        return _scorers[model]
