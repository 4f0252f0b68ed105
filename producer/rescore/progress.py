"""Count how far a re-scoring is, and the outcomes of its queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counts of what has been scored, and of what failed."""

    pairs: int = 0
    failed_pairs: int = 0
    queries: int = 0
    failed_queries: int = 0
    #: Queries that a smaller model scored than the one asked for.
    downgraded_queries: int = 0
    truncated: int = 0
    #: Queries by the model that scored them.
    models: Counter[str] = field(default_factory=Counter)
    #: Failed queries by the code of the failure.
    codes: Counter[str] = field(default_factory=Counter)
    #: The message of the first failure.
    first_failure: str | None = None

    @property
    def done_pairs(self) -> int:
        """Return the number of pairs that are scored or have failed."""
        return self.pairs + self.failed_pairs
