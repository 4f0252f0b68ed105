"""Group requests into jobs of limited size, and make the jobs of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from contract import jobs, names
from contract.errors import InvalidInput
from contract.jobs import Request
from contract.passages import Passages
from contract.settings import Settings
from producer.client import arguments, preparing
from producer.client.options import PassagesOption
from producer.client.preparing import PreparedJobs
from producer.client.splitting import estimated_passages

#: An upper bound of the size of a job's JSON without its requests: its id and the model's name.
ENVELOPE_BYTES = 512


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
    groups = group_requests(requests, settings, pairs_per_job, how)
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


def group_requests(
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


def _request(data: jobs.Request | Mapping[str, object]) -> jobs.Request:
    if isinstance(data, Mapping) and "candidates" in data:
        documents = cast(Iterable[preparing.Document], data["candidates"])
        data = {**data, "candidates": preparing.candidates(documents, "candidates")}
    return jobs.parse(jobs.Request, data)


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


def _estimated_pairs(request: jobs.Request, passages: Passages | None) -> int:
    """Return about how many pairs of the query and a passage are scored for a request."""
    return sum(estimated_passages(passages, (each.text for each in request.candidates)))


def _size_bytes(request: jobs.Request) -> int:
    return len(request.model_dump_json().encode()) + 1  # for the comma
