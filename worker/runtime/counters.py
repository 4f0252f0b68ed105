"""What this process has counted and not yet told: it goes along with the next change of a job.

A process that is killed takes the rest with it, and no job waits for its counts.
"""

from __future__ import annotations

import threading

from contract import metrics

_untold: dict[str, float] = {}
_lock = threading.Lock()


def add(counts: metrics.Counts) -> None:
    """Count something."""
    with _lock:
        for what, more in counts.items():
            _untold[what] = _untold.get(what, 0) + more


def take() -> metrics.Counts:
    """All that was counted since the last call."""
    with _lock:
        taken = dict(_untold)
        _untold.clear()
    return taken
