"""What a worker makes of what its models do: counts, and the stage that a health check reports."""

from __future__ import annotations

from contract import metrics
from worker.engine.observer import EngineObserver
from worker.engine.statistics import BatchStatistics
from worker.runtime.counters import PendingCounters
from worker.runtime.load_progress import LoadProgress


class WorkerObserver(EngineObserver):
    """Counts for all workers together, and shows the main process what this child is loading."""

    def __init__(self, counters: PendingCounters, load_progress: LoadProgress) -> None:
        self._counters = counters
        self._load_progress = load_progress

    def loading(self, stage: str) -> None:
        self._load_progress.write(stage)

    def loaded(self, model: str, seconds: float) -> None:
        self._counters.add({metrics.LOADS.field(model): 1, metrics.LOADING_S.field(model): seconds})

    def scored(self, model: str, statistics: BatchStatistics) -> None:
        # Batches are compared with the pairs that were scored: those of a failed job are not there.
        whole = statistics.pair_tokens > 0
        self._counters.add(
            {
                metrics.BATCHES.field(model): len(statistics.batch_tokens) if whole else 0,
                metrics.PADDING.field(model): statistics.padding_tokens if whole else 0,
                metrics.SHORTAGES.field(model): statistics.out_of_memory,
                metrics.HALVINGS.field(model): statistics.budget_reductions,
                metrics.SCORING_S.field(model): statistics.seconds,
            }
        )
