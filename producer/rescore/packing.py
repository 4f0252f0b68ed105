"""Pack staged queries into jobs, as columns, without an object for each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from contract import jobs, limits
from contract.columns import JobColumns, given
from contract.settings import Settings
from producer.client import preparing
from producer.rescore.staged_query import StagedQuery

T = TypeVar("T")


def pack(
    queries: Iterable[StagedQuery], *, max_pairs: Callable[[int], int], max_bytes: int
) -> Iterator[list[StagedQuery]]:
    """Group queries as `preparing.pack` groups their requests.

    Their sizes are only computed for a group whose texts may be too long.
    """
    group: list[StagedQuery] = []
    pairs = most_bytes = most_pairs = 0
    max_bytes -= preparing.ENVELOPE_BYTES
    for place, query in enumerate(queries):
        if group and (
            pairs + query.pairs > most_pairs
            or (
                most_bytes + query.most_bytes > max_bytes
                and sum(each.size_bytes for each in (*group, query)) > max_bytes
            )
        ):
            yield group
            group, pairs, most_bytes = [], 0, 0
        if not group:
            most_pairs = max_pairs(place)
        group.append(query)
        pairs += query.pairs
        most_bytes += query.most_bytes
    if group:
        yield group


def job(
    group: Sequence[StagedQuery],
    settings: Settings,
    *,
    model: str | None,
    job_id: str,
    allow_downgrade: bool,
    top_k: int | None,
) -> jobs.Job | JobColumns:
    """Return the job of a group: as a record if it may have to be split, else as columns.

    Raises `InvalidInput` or a subclass.
    """
    if len(group) == 1 and _may_be_split(group[0], settings):
        return preparing.job(
            [group[0].request(top_k)],
            settings,
            model=model,
            job_id=job_id,
            allow_downgrade=allow_downgrade,
        )
    limits.check_model(model, settings)
    return _columns(group, model, job_id, allow_downgrade, top_k)


def _may_be_split(query: StagedQuery, settings: Settings) -> bool:
    most_bytes = query.most_bytes + preparing.ENVELOPE_BYTES
    return query.pairs > settings.max_pairs_per_job or most_bytes > settings.max_bytes_per_job


def _columns(
    group: Sequence[StagedQuery],
    model: str | None,
    job_id: str,
    allow_downgrade: bool,
    top_k: int | None,
) -> JobColumns:
    """Return the job as columns, which were checked when the files were loaded."""
    texts = _joined(each.texts for each in group)
    distinct = dict.fromkeys(texts)
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return JobColumns.model_construct(
        id=job_id,
        model=model,
        allow_downgrade=allow_downgrade,
        queries=[each.text for each in group],
        query_ids=[each.id for each in group],
        top_ks=given([top_k] * len(group)),
        counts=[each.pairs for each in group],
        ids=_joined(each.document_ids for each in group),
        text_indexes=list(map(places.__getitem__, texts)),
        scores=given(_joined(each.scores for each in group)),
        metadata=given(_joined(each.metadata for each in group)),
        texts=list(distinct),
    )


def _joined(columns: Iterable[Sequence[T]]) -> list[T]:
    return list(chain.from_iterable(columns))
