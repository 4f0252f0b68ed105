"""What the owner of a model may want to be told, to count or to show it."""

from __future__ import annotations

from worker.engine.statistics import BatchStatistics


class EngineObserver:
    """Hears what becomes of models. This one does nothing with it; owners override what they use.

    Called in the thread that loads or scores.
    """

    def loading(self, stage: str) -> None:
        """A model is being loaded; `stage` says how far it is, as in `loading model 'bundled'`."""

    def loaded(self, model: str, seconds: float) -> None:
        """A model has been loaded and warmed up."""

    def scored(self, model: str, statistics: BatchStatistics) -> None:
        """Pairs have been scored, or could not be."""
