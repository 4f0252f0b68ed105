"""The numbers of jobs of a batch in each state."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import TypeAdapter

from contract import jobs

#: The state of a job without a record: not submitted yet, expired, or lost.
MISSING = "missing"


@dataclass(frozen=True)
class Amount:
    """A number of jobs, with their requests and pairs."""

    jobs: int = 0
    requests: int = 0
    pairs: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.jobs + other.jobs, self.requests + other.requests, self.pairs + other.pairs
        )


@dataclass(frozen=True)
class Counts:
    """The jobs of a batch, or of some of its jobs, by state; and what they have in common."""

    #: The clock of Redis when they were counted.
    now: float = 0.0
    #: By state, and by `MISSING`.
    amounts: dict[str, Amount] = field(default_factory=dict)
    started_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    #: The number of outcomes that can be read.
    kept: int = 0
    #: The code of a failed job, if there is one.
    code: str | None = None

    def of(self, *states: str) -> Amount:
        """Return the amount in these states together."""
        return sum((self.amounts.get(each, Amount()) for each in states), Amount())

    @property
    def settled(self) -> bool:
        """Return whether the states will not change; a failed job may be retried."""
        ends = {jobs.JobState.DONE.value, jobs.JobState.CANCELLED.value}
        return all(state in ends for state, amount in self.amounts.items() if amount.jobs)

    def __add__(self, other: Counts) -> Counts:
        starts = [each for each in (self.started_at, other.started_at) if each is not None]
        ends = [each for each in (self.ended_at, other.ended_at) if each is not None]
        states = self.amounts.keys() | other.amounts.keys()
        return Counts(
            now=max(self.now, other.now),
            amounts={state: self.of(state) + other.of(state) for state in states},
            started_at=min(starts, default=None),
            ended_at=max(ends, default=None),
            attempts=max(self.attempts, other.attempts),
            kept=self.kept + other.kept,
            code=self.code or other.code,
        )


COUNTS: TypeAdapter[Counts] = TypeAdapter(Counts)
