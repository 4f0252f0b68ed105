"""An interface for reporting the progress of loading and scoring."""

from __future__ import annotations

from worker.engine.statistics import BatchStatistics


class EngineObserver:
    """Callbacks about loading and scoring. The defaults do nothing; override those you need.

    They run in the thread that loads or scores.
    """

    def loading(self, stage: str) -> None:
        """Handle a stage of loading a model, for example `loading model 'bundled'`."""

    def loaded(self, model: str, seconds: float) -> None:
        """Handle a model that has been loaded and warmed up."""

    def scored(self, model: str, statistics: BatchStatistics) -> None:
        """Handle pairs that have been scored, or could not be scored."""
