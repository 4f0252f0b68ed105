"""Count the progress of a re-scoring and the outcomes of its queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_COUNTS = (
    *("pairs", "failed_pairs", "queries", "failed_queries"),
    *("downgraded_queries", "truncated", "lost_tokens", "shortened"),
)


@dataclass
class Progress:
    """Counts of scored and failed queries and pairs."""

    pairs: int = 0
    failed_pairs: int = 0
    queries: int = 0
    failed_queries: int = 0
    #: The number of queries scored by a smaller model than the requested one.
    downgraded_queries: int = 0
    #: The number of pairs whose document was not read completely, and about how many tokens of
    #: them were not read.
    truncated: int = 0
    lost_tokens: int = 0
    #: The number of documents with shorter passages than requested.
    shortened: int = 0
    #: The number of queries by the model that scored them.
    models: Counter[str] = field(default_factory=Counter)
    #: The number of failed queries by the code of the failure.
    codes: Counter[str] = field(default_factory=Counter)
    #: The message of the first failure.
    first_failure: str | None = None
    #: The number of pairs whose score a cache had, and of those whose score it lacked.
    cached_pairs: int = field(default=0, compare=False)
    missed_pairs: int = field(default=0, compare=False)
    #: The current maximum numbers of jobs in flight and of pairs in a job.
    window: int = field(default=0, compare=False)
    pairs_per_job: int = field(default=0, compare=False)

    def add(self, other: Progress) -> None:
        """Add what another process has scored."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.models.update(other.models)
        self.codes.update(other.codes)
        self.first_failure = self.first_failure or other.first_failure

    @property
    def done_pairs(self) -> int:
        """Return the number of pairs that are scored or have failed."""
        return self.pairs + self.failed_pairs
