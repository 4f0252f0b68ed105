"""Counters that are not in Redis yet. They are sent with the next change of a job.

The counts of a killed process are lost, and no job waits for its counts to be sent.
"""

from __future__ import annotations

import threading

from contract import metrics
from worker.engine.observer import EngineObserver
from worker.engine.statistics import BatchStatistics
from worker.runtime.load_progress import LoadProgress


class PendingCounters:
    """Accumulates counts until they are sent to Redis. Safe to share between threads."""

    def __init__(self) -> None:
        self._pending: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, counts: metrics.Counts) -> None:
        """Increase a counter."""
        with self._lock:
            for what, more in counts.items():
                self._pending[what] = self._pending.get(what, 0) + more

    def take(self) -> metrics.Counts:
        """Return all counts since the last call, and reset them."""
        with self._lock:
            taken = dict(self._pending)
            self._pending.clear()
        return taken


class WorkerObserver(EngineObserver):
    """Counts what this process scores, and reports to the main process what it loads."""

    def __init__(self, counters: PendingCounters, load_progress: LoadProgress) -> None:
        self._counters = counters
        self._load_progress = load_progress

    def loading(self, stage: str) -> None:
        self._load_progress.write(stage)

    def loaded(self, model: str, seconds: float) -> None:
        self._counters.add({metrics.LOADS.field(model): 1, metrics.LOADING_S.field(model): seconds})

    def scored(self, model: str, statistics: BatchStatistics) -> None:
        # Batches are compared with the pairs that were scored, which excludes those of failed jobs.
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
