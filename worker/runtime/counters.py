"""What this process has counted and not yet reported: it goes along with the next change of a job.

A process that is killed takes the rest with it, and no job waits for its counts.
"""

from __future__ import annotations

import threading

from contract import metrics


class PendingCounters:
    """Counts until somebody takes them to Redis. Safe to share between threads."""

    def __init__(self) -> None:
        self._pending: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, counts: metrics.Counts) -> None:
        """Count something."""
        with self._lock:
            for what, more in counts.items():
                self._pending[what] = self._pending.get(what, 0) + more

    def take(self) -> metrics.Counts:
        """Return all that was counted since the last call."""
        with self._lock:
            taken = dict(self._pending)
            self._pending.clear()
        return taken
