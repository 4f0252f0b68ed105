"""The scorers of this process: each model is loaded once, by whoever asks first."""

from __future__ import annotations

import threading

from worker.scorer import Scorer

_scorers: dict[str, Scorer] = {}
_loading = threading.Lock()


def get(model: str, device: str, threads: int, max_batch_tokens: int) -> Scorer:
    """The scorer of `model`, loaded and warmed at the first call. Raises `ModelUnavailable`."""
    with _loading:
        if model not in _scorers:
            _scorers[model] = Scorer(model, device, threads, max_batch_tokens)
        return _scorers[model]
