"""Count what an LLM reranker has used."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Usage:
    """Counts over the life of a reranker."""

    #: The number of documents that the model was asked to rate.
    documents: int = 0
    #: The number of documents without a score: no answer in time, an error, or a malformed answer.
    failed: int = 0
    #: The number of those whose answer was not a rating.
    malformed: int = 0
    #: The number of HTTP requests, including retries.
    requests: int = 0
    #: The numbers of tokens that the endpoint reported.
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def cost(self, prompt_price: float, completion_price: float) -> float:
        """Return the cost of the tokens, at prices for a million tokens each."""
        millions = 1_000_000
        prompt = self.prompt_tokens * prompt_price
        return (prompt + self.completion_tokens * completion_price) / millions


class UsageCounter:
    """Adds up usage; safe to share between threads."""

    def __init__(self) -> None:
        self._usage = Usage()
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Increase the named counts."""
        with self._lock:
            increased = {name: getattr(self._usage, name) + n for name, n in counts.items()}
            self._usage = replace(self._usage, **increased)

    def read(self) -> Usage:
        """Return the counts so far."""
        return self._usage
