"""The record of a job that is stored as several."""

from __future__ import annotations

from pydantic import Field

from contract.record import JobId, Record


class SplitJob(Record):
    """A job of one query that is too large for a job: several others stand for it, its parts."""

    job_id: JobId
    #: Places of the first candidates of the parts, and the number of all candidates.
    bounds: tuple[int, ...] = Field(min_length=2)
    top_k: int | None

    @property
    def part_ids(self) -> tuple[str, ...]:
        """Ids of the parts, in the order of their candidates."""
        return tuple(
            f"{self.job_id}.{begin + 1}-{end}"
            for begin, end in zip(self.bounds, self.bounds[1:], strict=False)
        )
