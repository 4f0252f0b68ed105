"""A cache of the scorers in a process: each model is loaded once."""

from __future__ import annotations

import threading

from contract.errors import ModelUnavailable
from worker.engine.loader import load
from worker.engine.observer import EngineObserver
from worker.engine.scorer import Scorer
from worker.engine.unusable import UnusableModel, unusable_message


class ScorerCache:
    """Scorers, keyed by all settings that scores depend on. Safe to share between threads.

    See `worker.engine.load` for `observer` and `passed_through`.
    """

    def __init__(
        self,
        observer: EngineObserver | None = None,
        passed_through: tuple[type[Exception], ...] = (),
    ) -> None:
        self._observer = observer
        self._passed_through = passed_through
        self._scorers: dict[tuple[object, ...], Scorer] = {}
        self._loading = threading.Lock()

    def get(
        self,
        model: str,
        device: str = "cpu",
        threads: int | None = None,
        max_batch_tokens: int | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
    ) -> Scorer:
        """Return the scorer of `model`, loaded and warmed up on the first call.

        `threads` and `max_batch_tokens` do not affect scores, so those of the first call apply to
        all.

        Raises `OutOfMemory`, or `ModelUnavailable`, also for a model with several scores per pair,
        because it is unknown which of them to rank by.
        """
        key = (model, device, dtype, max_length, prompt)
        if key in self._scorers:  # a caller of a loaded model need not wait for another to load
            return self._scorers[key]
        with self._loading:
            if key not in self._scorers:
                scorer = load(
                    *(model, device, threads, max_batch_tokens, dtype, max_length),
                    prompt=prompt,
                    observer=self._observer,
                    passed_through=self._passed_through,
                )
                _require_one_score(scorer)
                self._scorers[key] = scorer
            return self._scorers[key]


def require_length(
    scorer: Scorer, max_length: int | None, setting: str = "RERANKQ_MAX_LENGTH"
) -> None:
    """Raise `ModelUnavailable` if the scorer reads fewer tokens of a pair than the setting says."""
    if max_length is not None and scorer.max_length < max_length:
        raise ModelUnavailable(
            f"{setting} is {max_length}, but model {scorer.model!r} reads at most"
            f" {scorer.max_length} tokens. Lower {setting}, or set CROSS_ENCODER_MODEL to another"
            " model"
        )


def _require_one_score(scorer: Scorer) -> None:
    if scorer.labels != 1:
        several = UnusableModel(f"it returns {scorer.labels} scores per pair instead of one")
        raise ModelUnavailable(unusable_message(scorer.model, several))
