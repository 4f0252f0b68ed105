"""Track submitted jobs under their ids, and the parts of queries too large for one job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from contract import jobs
from contract.columns import JobColumns
from contract.errors import MixedModels
from contract.settings import Settings
from producer.client import merging, splitting


class SplitQuery:
    """A query that is too large for one job, and the results of its parts so far."""

    def __init__(
        self,
        job: jobs.Job,
        how: jobs.SplitJob,
        before: SplitQuery | None,
        mixed: MixedModels | None,
    ) -> None:
        self.job = job
        self.how = how
        #: The error that made a smaller model score the query, if one does.
        self.mixed = mixed
        #: Results by the ids of the parts.
        self.results: dict[str, jobs.JobResult] = {}
        #: The ids of the jobs that can be forgotten when the query has ended.
        self.sent_ids: list[str] = list(before.sent_ids) if before else []
        self.has_ended = False

    @property
    def is_complete(self) -> bool:
        """Return whether all parts have results."""
        return len(self.results) == len(self.how.part_ids)

    def merged(self) -> jobs.JobResult:
        """Return the result of the whole query. Raises `MixedModels`."""
        result = merging.merge_results(self.how, [self.results[each] for each in self.how.part_ids])
        if self.mixed is None:
            return result
        return merging.as_downgraded(result, self.job.id, self.mixed)


@dataclass(frozen=True)
class Submission:
    """A job under one of its ids; a job that has ended can only be sent again under a new id."""

    job: jobs.Job | JobColumns
    #: The number of the submission, from 1; from 2 on, the id ends with it.
    number: int = 1
    #: The query that the job is a part of.
    whole: SplitQuery | None = None

    @property
    def id(self) -> str:
        """Return the id under which the job is sent."""
        return self.job.id if self.number == 1 else f"{self.job.id}.{self.number}"

    @cached_property
    def chars(self) -> int:
        """The number of characters in the texts of its documents."""
        if isinstance(self.job, JobColumns):
            return sum(map(len, self.job.texts))
        return sum(len(each.text) for request in self.job.requests for each in request.candidates)

    def again(self) -> Submission:
        """Return the same job under its next id."""
        return Submission(self.job, self.number + 1, self.whole)


def submissions(
    job: jobs.Job | JobColumns,
    settings: Settings,
    *,
    before: SplitQuery | None = None,
    mixed: MixedModels | None = None,
) -> list[Submission]:
    """Return the job itself, or its parts if it is too large.

    A query whose parts were scored by `mixed` models is sent again, after `before`.
    """
    if isinstance(job, JobColumns):
        return [Submission(job)]
    how = splitting.split(job, settings)
    if how is None:
        return [Submission(job)]
    whole = SplitQuery(job, how, before, mixed)
    return [Submission(part, whole=whole) for part in splitting.parts(job, how)]
