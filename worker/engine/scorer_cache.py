"""A cache of the scorers in a process: each model is loaded once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from contract.errors import ModelUnavailable
from worker.engine import memory
from worker.engine.loader import load
from worker.engine.observer import EngineObserver
from worker.engine.scorer import Scorer
from worker.engine.unusable import UnusableModel, unusable_message

if TYPE_CHECKING:
    from worker.engine.prepared import PreparedModel

#: The settings that the scores of a model depend on.
Key = tuple[object, ...]


def key_of(
    model: str, device: str, dtype: str | None, max_length: int | None, prompt: str | None
) -> Key:
    """Return the key of a model that is loaded with these settings."""
    return (model, device, dtype, max_length, prompt)


class ScorerCache:
    """Scorers, keyed by all settings that scores depend on. Safe to share between threads.

    See `worker.engine.load` for `observer` and `passed_through`. `prepared` has models of another
    process by what `key_of` returns.
    """

    def __init__(
        self,
        observer: EngineObserver | None = None,
        passed_through: tuple[type[Exception], ...] = (),
        prepared: Mapping[Key, PreparedModel] | None = None,
    ) -> None:
        self._observer = observer
        self._passed_through = passed_through
        self._prepared = prepared or {}
        self._scorers: dict[Key, Scorer] = {}
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
        key = key_of(model, device, dtype, max_length, prompt)
        if key in self._scorers:  # a caller of a loaded model does not wait for another to load
            return self._scorers[key]
        with self._loading:
            if key not in self._scorers:
                scorer = load(
                    model,
                    device,
                    threads,
                    max_batch_tokens,
                    dtype,
                    max_length,
                    prompt=prompt,
                    observer=self._observer,
                    passed_through=self._passed_through,
                    prepared=self._prepared.get(key),
                )
                _require_one_score(scorer)
                self._scorers[key] = scorer
            return self._scorers[key]

    def __contains__(self, key: Key) -> bool:
        """Return whether a model is loaded, by what `key_of` returns."""
        return key in self._scorers

    def drop(self, key: Key) -> None:
        """Forget a model that nothing uses, and return its memory to the system and the device."""
        self._scorers.pop(key, None)
        memory.release_unused()


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
