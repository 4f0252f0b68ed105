"""What this process has counted and not yet told: it goes along with the next change of a job.

A process that is killed takes the rest with it, and no job waits for its counts.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

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


@dataclass
class Work:
    """What a model did for some pairs."""

    #: Tokens that each batch was computed for, those that only fill it up included.
    batch_tokens: list[int] = field(default_factory=list)
    #: Times that memory ran out, and that batches were halved for it.
    shortages: int = 0
    halvings: int = 0

    def count(self, model: str, tokens: int, seconds: float) -> None:
        """Add it to what is counted; `tokens` are those of the pairs, if they could be scored."""
        add(
            {
                metrics.BATCHES.field(model): len(self.batch_tokens) if tokens else 0,
                metrics.PADDING.field(model): sum(self.batch_tokens) - tokens if tokens else 0,
                metrics.SHORTAGES.field(model): self.shortages,
                metrics.HALVINGS.field(model): self.halvings,
                metrics.SCORING_S.field(model): seconds,
            }
        )
