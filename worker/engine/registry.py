"""The scorers of this process: each model is loaded once, by whoever asks first."""

from __future__ import annotations

import threading

from contract.errors import ModelUnavailable
from worker.engine import loading
from worker.engine.checkpoint_checks import Unfit
from worker.engine.scorer import Scorer

#: By all that their scores depend on.
_scorers: dict[tuple[object, ...], Scorer] = {}
_loading = threading.Lock()


def get(
    model: str,
    device: str,
    threads: int | None,
    max_batch_tokens: int | None,
    dtype: str | None = None,
    max_length: int | None = None,
) -> Scorer:
    """Return the scorer of `model`, loaded and warmed at the first call.

    The first caller's `threads` and `max_batch_tokens`, which change no score, hold for all.

    Raises `OutOfMemory`, or `ModelUnavailable`, also for a model with several scores a pair:
    nothing says which of them to rank by.
    """
    wanted = (model, device, dtype, max_length)
    if wanted in _scorers:  # whoever has a loaded model need not wait for another to load
        return _scorers[wanted]
    with _loading:
        if wanted not in _scorers:
            scorer = Scorer(model, device, threads, max_batch_tokens, dtype, max_length)
            if scorer.labels != 1:
                several = Unfit(f"it gives {scorer.labels} scores a pair; a reranker gives one")
                raise ModelUnavailable(loading.unusable(model, several))
            _scorers[wanted] = scorer
        return _scorers[wanted]


def require_length(scorer: Scorer, max_length: int | None) -> None:
    """Raise `ModelUnavailable` if the scorer reads fewer tokens of a pair than it was asked to."""
    if max_length is not None and scorer.max_length < max_length:
        raise ModelUnavailable(
            f"model {scorer.model!r} reads at most {scorer.max_length} tokens, and"
            f" RERANKQ_MAX_LENGTH asks for {max_length}: lower it, or choose another model in"
            " CROSS_ENCODER_MODEL"
        )
