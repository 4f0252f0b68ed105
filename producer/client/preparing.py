"""Make a job of a query with its documents, from strings, dicts and records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from contract import jobs, limits, names
from contract.errors import InvalidInput, JobConflict
from contract.jobs import Job, SplitJob
from contract.passages import Passages
from contract.settings import Settings
from contract.validation import kind_of
from producer.client import arguments, splitting
from producer.client.options import PassagesOption

#: A text, whose id is its index; `{"text": ..., "id": ...}`; or a `Candidate`.
Document = str | Mapping[str, object] | jobs.Candidate


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
    documents: Iterable[Document],
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
    asked = request(query, documents, top_k=top_k)
    made = job(
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


def request(query: str, documents: Iterable[Document], *, top_k: int | None) -> jobs.Request:
    """Make a request. Raises `InvalidInput`."""
    return jobs.parse(
        jobs.Request, {"query": query, "candidates": candidates(documents), "top_k": top_k}
    )


def candidates(
    documents: Iterable[Document], name: str = "documents"
) -> tuple[jobs.Candidate, ...]:
    """Make candidates; the id of a document defaults to its index, from 0.

    Raises `InvalidInput`, which names the document's index.
    """
    given = arguments.check_list(name, documents)
    fields = [_fields(place, document) for place, document in enumerate(given)]
    try:
        return _CANDIDATES.validate_python(fields)
    except ValidationError:
        return tuple(_candidate(place, data) for place, data in enumerate(fields))  # raises


#: All candidates at once, which takes half as long as one after the other.
_CANDIDATES: TypeAdapter[tuple[jobs.Candidate, ...]] = TypeAdapter(tuple[jobs.Candidate, ...])


def _fields(place: int, document: Document) -> object:
    if isinstance(document, str):
        return {"id": str(place), "text": document}
    if isinstance(document, Mapping):
        return {"id": str(place), **document}
    return document


def _candidate(place: int, data: object) -> jobs.Candidate:
    if not isinstance(data, Mapping | jobs.Candidate):
        raise InvalidInput(f"document {place}: must be a string or an object, not {kind_of(data)}")
    try:
        return jobs.parse(jobs.Candidate, data)
    except InvalidInput as error:
        raise InvalidInput(f"document {place}: {error}") from error


def job(
    requests: Sequence[jobs.Request],
    settings: Settings,
    *,
    model: str | None = None,
    job_id: str | None = None,
    allow_downgrade: bool = True,
    passages: PassagesOption = None,
) -> jobs.Job:
    """Make a job that is within the limits, or can be split: see `producer.client.splitting`.

    Raises `InvalidInput` or a subclass.
    """
    made = jobs.parse(
        jobs.Job,
        {
            "id": jobs.new_job_id() if job_id is None else job_id,
            "requests": tuple(requests),
            "model": model,
            "allow_downgrade": allow_downgrade,
            "passages": Passages.parse(passages),
        },
    )
    limits.check(made, settings, may_split=True)
    splitting.split(made, settings)  # raises if the job is too large and cannot be split
    return made
