"""The models that a process of the worker has loaded."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from billiard.exceptions import SoftTimeLimitExceeded

from contract.errors import ModelUnavailable
from worker.engine import devices
from worker.engine.observer import EngineObserver
from worker.runtime.loaded_scorings import LoadedScorings
from worker.runtime.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.engine import Scorer, ScorerCache

logger = logging.getLogger(__name__)


class LoadedModels:
    """Loads models according to a worker's settings, each once.

    `threads` apply to this process, and `place` is its place in the pool. Each loaded model is
    added to `loaded`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        threads: int,
        place: int,
        observer: EngineObserver,
        loaded: LoadedScorings | None = None,
    ) -> None:
        self._settings = settings
        self._threads = threads
        self._place = place
        self._observer = observer
        self._loaded = loaded or LoadedScorings()

    def scorer(self, model: str) -> Scorer:
        """Return the scorer of `model`, loaded on the first call. Raises `ModelUnavailable`.

        The default model must support RERANKQ_MAX_LENGTH tokens, and reads RERANKQ_PROMPT with each
        pair. Each model must support the number of tokens that is set for it. Others read up to
        their own limit.
        """
        from worker.engine.scorer_cache import require_length

        settings = self._settings
        own_length = settings.own_max_length(model)
        is_default = model == settings.cross_encoder_model
        scorer = self._scorers.get(
            model,
            self._device,
            self._threads,
            settings.max_batch_tokens,
            settings.dtype,
            own_length or settings.max_length,
            settings.prompt if is_default else None,
        )
        if own_length is not None:
            require_length(scorer, own_length, "RERANKQ_MODEL_MAX_LENGTHS")
        elif is_default:
            require_length(scorer, settings.max_length)
        self._loaded.add(self._place, model, scorer.identity)
        return scorer

    @cached_property
    def _device(self) -> str:
        """The device of this process: its own GPU if it may use all."""
        device = self._settings.device
        if device != devices.ALL_GPUS:
            return device
        return devices.assigned(device, self._place, devices.count_gpus())

    @cached_property
    def _scorers(self) -> ScorerCache:
        # Imported here because Flower imports this module, on machines without numpy.
        from worker.engine import ScorerCache

        return ScorerCache(self._observer, passed_through=(SoftTimeLimitExceeded,))

    @cached_property
    def downgrade_model(self) -> str | None:
        """The downgrade model, loaded; None if there is none.

        Raises `ModelUnavailable` if it was configured. If only the default cannot be found, the
        worker runs without one.
        """
        name = self._settings.downgrade_to
        if name is None:
            return None
        try:
            self.scorer(name)
        except ModelUnavailable as error:
            if self._settings.downgrade_is_chosen:
                raise
            logger.warning(
                "No downgrade model available: jobs that run out of memory or time will fail. Set"
                " RERANKQ_DOWNGRADE_MODEL to a model that can be loaded, or to none to disable"
                " downgrades. Reason: %s",
                error,
            )
            return None
        return name

    def load_all(self) -> None:
        """Load the default model and the downgrade model. Raises `ModelUnavailable`."""
        self.scorer(self._settings.cross_encoder_model)
        _ = self.downgrade_model

    @property
    def required(self) -> list[str]:
        """The models without which the worker cannot start.

        Excludes the downgrade model if it is the same model, or a default that may be missing.
        """
        settings = self._settings
        chosen = settings.downgrade_to if settings.downgrade_is_chosen else None
        return list(dict.fromkeys(filter(None, (settings.cross_encoder_model, chosen))))
