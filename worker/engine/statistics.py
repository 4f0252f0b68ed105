"""What scoring some pairs took, for whoever counts it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BatchStatistics:
    """The batches that some pairs were scored in."""

    #: Tokens that each batch was computed for, those that only fill it up included.
    batch_tokens: list[int] = field(default_factory=list)
    #: Times that memory ran out, and that the batch budget was reduced for it.
    out_of_memory: int = 0
    budget_reductions: int = 0
    #: Tokens of the pairs after truncation; 0 if they could not be scored.
    pair_tokens: int = 0
    seconds: float = 0.0

    @property
    def padding_tokens(self) -> int:
        """Tokens that were computed beside those of the pairs."""
        return sum(self.batch_tokens) - self.pair_tokens
