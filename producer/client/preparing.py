"""Make jobs from strings, dicts and records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

from pydantic import TypeAdapter, ValidationError

from contract import jobs, limits
from contract.errors import InvalidInput
from contract.passages import Passages
from contract.settings import Settings
from contract.validation import kind_of
from producer.client import arguments, splitting
from producer.client.options import PassagesOption
from producer.client.splitting import estimated_passages

#: A text, whose id is its index; `{"text": ..., "id": ...}`; or a `Candidate`.
Document = str | Mapping[str, object] | jobs.Candidate

#: An upper bound of the size of a job's JSON without its requests: its id and the model's name.
ENVELOPE_BYTES = 512


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


def pack(
    requests: Iterable[jobs.Request],
    *,
    max_pairs: Callable[[int], int],
    max_bytes: int,
    passages: Passages | None = None,
) -> Iterator[list[jobs.Request]]:
    """Group a stream of requests into groups of limited size.

    `max_pairs` returns the maximum number of pairs of the group that begins with the request at an
    index; of a document that is cut into passages, each passage counts. A group has about
    `max_bytes` bytes at most. Requests are not split here: a request that exceeds the limits
    becomes a group by itself.
    """
    group: list[jobs.Request] = []
    pairs = size = most_pairs = 0
    max_bytes -= ENVELOPE_BYTES
    for place, request in enumerate(requests):
        request_pairs, request_size = _estimated_pairs(request, passages), _size_bytes(request)
        if group and (pairs + request_pairs > most_pairs or size + request_size > max_bytes):
            yield group
            group, pairs, size = [], 0, 0
        if not group:
            most_pairs = max_pairs(place)
        group.append(request)
        pairs += request_pairs
        size += request_size
    if group:
        yield group


def _size_bytes(request: jobs.Request) -> int:
    return len(request.model_dump_json().encode()) + 1  # for the comma


def request(query: str, documents: Iterable[Document], *, top_k: int | None) -> jobs.Request:
    """Make a request. Raises `InvalidInput`."""
    return jobs.parse(
        jobs.Request, {"query": query, "candidates": candidates(documents), "top_k": top_k}
    )


def group(
    requests: Iterable[jobs.Request | Mapping[str, object]],
    settings: Settings,
    pairs_per_job: int | None,
    passages: Passages | None = None,
) -> list[list[jobs.Request]]:
    """Make requests, and group them into jobs within the limits.

    Raises `InvalidInput`, which names the request's index.
    """
    made = []
    for place, data in enumerate(arguments.check_list("requests", requests)):
        try:
            made.append(_request(data))
        except InvalidInput as error:
            raise InvalidInput(f"request {place}: {error}") from error
    asked = arguments.check_pairs_per_job(pairs_per_job) or settings.max_pairs_per_job
    max_pairs = min(asked, settings.max_pairs_per_job)
    groups = pack(
        made,
        max_pairs=lambda _: max_pairs,
        max_bytes=settings.max_bytes_per_job,
        passages=passages,
    )
    return list(groups)


def _estimated_pairs(request: jobs.Request, passages: Passages | None) -> int:
    """Return about how many pairs of the query and a passage are scored for a request."""
    return sum(estimated_passages(passages, (each.text for each in request.candidates)))


def _request(data: jobs.Request | Mapping[str, object]) -> jobs.Request:
    if isinstance(data, Mapping) and "candidates" in data:
        documents = cast(Iterable[Document], data["candidates"])
        data = {**data, "candidates": candidates(documents, "candidates")}
    return jobs.parse(jobs.Request, data)
