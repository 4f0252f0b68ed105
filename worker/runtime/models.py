"""The models that a process of the worker has loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from billiard.exceptions import SoftTimeLimitExceeded

from contract.errors import ModelUnavailable, RerankError
from worker.engine import devices
from worker.engine.observer import EngineObserver
from worker.runtime.loaded_scorings import LoadedScorings
from worker.runtime.model_slots import ModelSlots
from worker.runtime.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.engine import Scorer, ScorerCache
    from worker.engine.prepared import PreparedModel
    from worker.engine.protocol import BeforeBatch
    from worker.engine.scorer_cache import Key

    PreparedModels = dict[Key, PreparedModel]

logger = logging.getLogger(__name__)


class LoadedModels:
    """Loads models according to a worker's settings, and keeps as many as these allow.

    The default model and the downgrade model are never dropped: children share their memory, and a
    job that ran out of memory needs the second one at once.

    `threads` apply to this process, and `place` is its place in the pool. Each loaded model is
    added to `loaded`. `prepared` has the models that another process has loaded: see
    `worker.runtime.shared_models`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        threads: int,
        place: int,
        observer: EngineObserver,
        loaded: LoadedScorings | None = None,
        prepared: PreparedModels | None = None,
    ) -> None:
        self._settings = settings
        self._threads = threads
        self._place = place
        self._observer = observer
        self._loaded = loaded or LoadedScorings()
        self._prepared = prepared or {}
        self._slots = ModelSlots(
            settings.max_models - len(set(settings.models)),
            settings.models,
            self._drop,
            lambda model: self._key(model) in self._scorers,
        )

    @contextmanager
    def keeping(self, model: str, check: BeforeBatch) -> Iterator[None]:
        """Keep a place for `model` until the end of the block, in which it may be loaded.

        If there are as many models as the settings allow, it takes the place of the one that jobs
        have used least recently. `check` is called while it waits for a place, and can end that
        with an error.
        """
        with self._slots.using(model, check):
            yield

    def scorer(self, model: str) -> Scorer:
        """Return the scorer of `model`, loaded on the first call. Raises `ModelUnavailable`.

        The default model must support RERANKQ_MAX_LENGTH tokens, and reads RERANKQ_PROMPT with each
        pair. Each model must support the number of tokens that is set for it. Others read up to
        their own limit.
        """
        from worker.engine.scorer_cache import require_length

        settings = self._settings
        scorer = self._scorers.get(**self._options(model))
        own_length = settings.own_max_length(model)
        if own_length is not None:
            require_length(scorer, own_length, "RERANKQ_MODEL_MAX_LENGTHS")
        elif model == settings.cross_encoder_model:
            require_length(scorer, settings.max_length)
        self._loaded.add(self._place, model, scorer.identity)
        return scorer

    def prepare(self) -> PreparedModels:
        """Return the models of the settings, loaded, except those that `predict` scores.

        Leaves out a model that cannot be loaded: a child reports the reason.
        """
        from worker.engine.loader import prepare

        made: PreparedModels = {}
        for model in dict.fromkeys(self._settings.models):
            with suppress(RerankError):
                if prepared := prepare(**self._options(model), observer=self._observer):
                    made[self._key(model)] = prepared
        return made

    def _drop(self, model: str, successor: str) -> None:
        logger.info(
            "Dropping %s, which jobs have used least recently, to load %s (RERANKQ_MAX_MODELS=%d)",
            model,
            successor,
            self._settings.max_models,
        )
        self._loaded.forget(self._place, model)
        self._scorers.drop(self._key(model))

    def _key(self, model: str) -> Key:
        """Return the key of a model that is loaded with the options of this process."""
        from worker.engine.scorer_cache import key_of

        options = self._options(model)
        del options["threads"], options["max_batch_tokens"]  # they do not affect scores
        return key_of(**options)

    def _options(self, model: str) -> dict[str, Any]:
        """Return the arguments with which `worker.engine.load` loads a model."""
        settings = self._settings
        is_default = model == settings.cross_encoder_model
        return {
            "model": model,
            "device": self._device,
            "threads": self._threads,
            "max_batch_tokens": settings.max_batch_tokens,
            "dtype": settings.dtype,
            "max_length": settings.own_max_length(model) or settings.max_length,
            "prompt": settings.prompt if is_default else None,
        }

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

        return ScorerCache(self._observer, (SoftTimeLimitExceeded,), self._prepared)

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
