"""Jobs that are ready to be queued, with the options of their submission."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import jobs, names
from contract.errors import InvalidInput, JobConflict
from contract.jobs import Job, Request, SplitJob
from contract.passages import Passages
from contract.settings import Settings
from producer.client import arguments, preparing
from producer.client.options import PassagesOption


@dataclass(frozen=True)
class PreparedJobs:
    """Jobs that are ready to be queued in this order."""

    jobs: tuple[Job, ...]
    priority: int
    #: Whether all of them must be queued or none.
    all_or_none: bool = False
    #: Whether the caller chose the id. Other callers may then have submitted the same job too.
    id_is_chosen: bool = False
    #: How the jobs form a batch, if they were submitted together and there are any.
    batch: SplitJob | None = None
    #: A name of the batch for people.
    label: str | None = None
    #: The trace context in the messages' headers.
    trace: Mapping[str, str] | None = None
    #: The group with which they share their turns; None for the client's own.
    group: str | None = None

    def is_withdrawn_after(self, error: BaseException) -> bool:
        """Return whether the jobs must be cancelled after an error or an interruption."""
        interrupted = not isinstance(error, Exception)  # KeyboardInterrupt, CancelledError, ...
        if self.batch is not None and isinstance(error, JobConflict):
            return False  # the jobs may be those of an identical batch that was submitted earlier
        return self.all_or_none or (interrupted and not self.id_is_chosen)


def prepare_query(
    query: str,
    documents: Iterable[preparing.Document],
    settings: Settings,
    /,
    *,
    top_k: int | None = None,
    model: str | None = None,
    job_id: str | None = None,
    allow_downgrade: bool = True,
    priority: int = names.PRIORITY_SINGLE,
    trace: Mapping[str, str] | None = None,
    group: str | None = None,
    passages: PassagesOption = None,
) -> PreparedJobs:
    """Make the job of one query with its documents. Raises `InvalidInput`."""
    priority = arguments.check_priority(priority)
    arguments.check_trace(trace)
    arguments.check_group(group)
    asked = preparing.request(query, documents, top_k=top_k)
    made = preparing.job(
        [asked],
        settings,
        model=model,
        job_id=job_id,
        allow_downgrade=allow_downgrade,
        passages=passages,
    )
    return PreparedJobs(
        (made,), priority, id_is_chosen=job_id is not None, trace=trace, group=group
    )


def prepare_requests(
    requests: Iterable[Request | dict[str, Any]],
    settings: Settings,
    /,
    *,
    model: str | None = None,
    allow_downgrade: bool = True,
    priority: int = names.PRIORITY_BULK,
    trace: Mapping[str, str] | None = None,
    group: str | None = None,
    passages: PassagesOption = None,
    pairs_per_job: int | None = None,
    batch_id: str | None = None,
    label: str | None = None,
) -> PreparedJobs:
    """Make the jobs of many queries. Raises `InvalidInput`, which names the request's index."""
    priority = arguments.check_priority(priority)
    arguments.check_trace(trace)
    arguments.check_group(group)
    arguments.check_label(label)
    how = Passages.parse(passages)
    groups = preparing.group(requests, settings, pairs_per_job, how)
    if not groups and batch_id is None:
        return PreparedJobs((), priority, label=label)
    batch = _batch(jobs.new_job_id() if batch_id is None else batch_id, groups)
    made = (
        preparing.job(
            some,
            settings,
            job_id=part_id,
            model=model,
            allow_downgrade=allow_downgrade,
            passages=how,
        )
        for some, part_id in zip(groups, batch.part_ids, strict=True)
    )
    return PreparedJobs(
        tuple(made),
        priority,
        all_or_none=True,
        batch=batch,
        label=label,
        trace=trace,
        group=group,
    )


def _batch(batch_id: str, groups: Sequence[Sequence[Request]]) -> jobs.SplitJob:
    """Return how jobs form a batch. Raises `InvalidInput` if they cannot have such ids."""
    if not groups:
        raise InvalidInput("a batch needs at least one request")
    bounds = itertools.accumulate(map(len, groups), initial=0)
    made = jobs.parse(
        jobs.SplitJob,
        {"job_id": batch_id, "bounds": tuple(bounds), "top_k": None, "of": "requests"},
    )
    for part_id in made.part_ids:
        if not jobs.JOB_ID.fullmatch(part_id):
            raise InvalidInput(
                f"batch id {batch_id!r} is too long: the ids of its jobs have up to"
                f" {len(part_id) - len(batch_id)} characters more"
            )
    return made
