"""Pack staged queries into jobs, as columns, without an object for each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

from contract import jobs, limits
from contract.column_values import given
from contract.columns import JobColumns
from contract.passages import Passages
from contract.settings import Settings
from producer.client import grouping, preparing
from producer.client.splitting import estimated_passages
from producer.rescore.staged_query import StagedQuery

T = TypeVar("T")

#: The queries by which the number of passages of a run is estimated.
_QUERIES_JUDGED = 20


def pack(
    queries: Iterable[StagedQuery],
    *,
    max_pairs: Callable[[int], int],
    max_bytes: int,
    passages: Passages | None = None,
) -> Iterator[list[StagedQuery]]:
    """Group queries as `grouping.pack` groups their requests.

    Their sizes are only computed for a group whose texts may be too long.
    """
    group: list[StagedQuery] = []
    pairs = most_bytes = most_pairs = 0
    max_bytes -= grouping.ENVELOPE_BYTES
    for place, query in enumerate(queries):
        query_pairs = _estimated_pairs(query, passages)
        if group and (
            pairs + query_pairs > most_pairs
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
        pairs += query_pairs
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
    passages: Passages | None = None,
) -> jobs.Job | JobColumns:
    """Return the job of a group: as a record if it may have to be split, else as columns.

    Raises `InvalidInput` or a subclass.
    """
    if len(group) == 1 and _may_be_split(group[0], settings, passages):
        return preparing.job(
            [group[0].request(top_k)],
            settings,
            model=model,
            job_id=job_id,
            allow_downgrade=allow_downgrade,
            passages=passages,
        )
    limits.check_model(model, settings)
    return _columns(group, model, job_id, allow_downgrade, top_k, passages)


def _estimated_pairs(query: StagedQuery, passages: Passages | None) -> int:
    """Return about how many pairs of the query and a passage are scored."""
    return query.pairs if passages is None else sum(estimated_passages(passages, query.texts))


def estimated_run_pairs(
    queries: Iterable[StagedQuery], pairs: int, passages: Passages | None
) -> int:
    """Return about how many pairs of a query and a passage a run has, judged by some queries."""
    if passages is None:
        return pairs
    some = list(islice(queries, _QUERIES_JUDGED))
    found = sum(_estimated_pairs(each, passages) for each in some)
    return round(pairs * found / max(1, sum(each.pairs for each in some)))


def _may_be_split(query: StagedQuery, settings: Settings, passages: Passages | None) -> bool:
    most_bytes = query.most_bytes + grouping.ENVELOPE_BYTES
    pairs = _estimated_pairs(query, passages)
    return pairs > settings.max_pairs_per_job or most_bytes > settings.max_bytes_per_job


def _columns(
    group: Sequence[StagedQuery],
    model: str | None,
    job_id: str,
    allow_downgrade: bool,
    top_k: int | None,
    passages: Passages | None,
) -> JobColumns:
    """Return the job as columns, which were checked when the files were loaded."""
    texts = _joined(each.texts for each in group)
    distinct = dict.fromkeys(texts)
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return JobColumns.model_construct(
        id=job_id,
        model=model,
        allow_downgrade=allow_downgrade,
        passages=passages,
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
