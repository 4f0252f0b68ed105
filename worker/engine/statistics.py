"""Statistics of scoring some pairs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BatchStatistics:
    """The batches that some pairs were scored in."""

    #: Computed tokens of each batch, including padding.
    batch_tokens: list[int] = field(default_factory=list)
    #: How often memory ran out, and how often the batch budget was reduced because of it.
    out_of_memory: int = 0
    budget_reductions: int = 0
    #: Tokens of the pairs after truncation; 0 if they could not be scored.
    pair_tokens: int = 0
    seconds: float = 0.0

    def add(self, other: BatchStatistics) -> None:
        """Add the batches of other pairs."""
        self.batch_tokens += other.batch_tokens
        self.out_of_memory += other.out_of_memory
        self.budget_reductions += other.budget_reductions

    @property
    def padding_tokens(self) -> int:
        """The number of computed tokens that are padding."""
        return sum(self.batch_tokens) - self.pair_tokens
