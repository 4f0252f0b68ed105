"""Makes jobs that are ready to be queued of what a caller submits; has the options' defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from contract import names
from contract.jobs import Job, Request
from contract.settings import Settings
from producer.client import preparing


@dataclass(frozen=True)
class PreparedJobs:
    """Jobs that are ready to be queued, one after the other."""

    jobs: tuple[Job, ...]
    priority: int
    #: Whether there are all of them or none.
    all_or_none: bool = False
    #: Whether the caller chose the id: others may have submitted the same job, and wait for it.
    id_is_chosen: bool = False

    def is_withdrawn_after(self, error: BaseException) -> bool:
        """Return whether its jobs are to be cancelled because of an error or an interruption."""
        interrupted = not isinstance(error, Exception)  # KeyboardInterrupt, CancelledError, ...
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
) -> PreparedJobs:
    """Make the job of one query with its documents. Raises `InvalidInput`."""
    preparing.check_priority(priority)
    request = preparing.request(query, documents, top_k=top_k)
    job = preparing.job(
        [request], settings, model=model, job_id=job_id, allow_downgrade=allow_downgrade
    )
    return PreparedJobs((job,), priority, id_is_chosen=job_id is not None)


def prepare_requests(
    requests: Iterable[Request | dict[str, Any]],
    settings: Settings,
    /,
    *,
    model: str | None = None,
    allow_downgrade: bool = True,
    priority: int = names.PRIORITY_BULK,
    pairs_per_job: int | None = None,
) -> PreparedJobs:
    """Make the jobs of many queries. Raises `InvalidInput` with the request's place."""
    preparing.check_priority(priority)
    made = preparing.many(requests, settings, model, pairs_per_job, allow_downgrade)
    return PreparedJobs(tuple(made), priority, all_or_none=True)
