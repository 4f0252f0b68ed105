"""Write the lines of a journal, one for each query, and the lines of a TREC run from them.

A line is put together from the columns of a result, because encoding an object for each document
takes several times as long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from contract import jobs
from contract.models import short_name
from contract.result_columns import ResultColumns
from contract.results import relevance

#: The fields of a job's provenance that also describe each of its queries.
_OF_A_QUERY = {
    "model_requested",
    "model",
    "revision",
    "downgraded",
    "reason",
    "backend",
    "device",
    "dtype",
    "max_length",
    "prompt",
}

#: The id, index, score and relevance of a document, and its metadata as JSON.
_Document = tuple[str, int, float, float, str | None]


class Line(NamedTuple):
    """A line of the journal."""

    #: Its content without the documents.
    head: dict[str, Any]
    text: bytes


def of_result(result: jobs.JobResult | ResultColumns) -> Iterator[Line]:
    """Yield a line for each query of a job."""
    source = result.provenance.model_dump(include=_OF_A_QUERY)
    source_json = _json(source)
    for query_id, truncated, documents in _rankings(result):
        head = {"query_id": query_id, "truncated": truncated, "provenance": source}
        text = (
            f'{{"query_id": {_json(query_id)}, "documents": [{", ".join(_documents(documents))}],'
            f' "truncated": {truncated}, "provenance": {source_json}}}\n'
        )
        yield Line(head, text.encode())


def of_failure(query_ids: Iterable[str], failure: jobs.Failure) -> Iterator[Line]:
    """Yield a line for each query that has no ranking."""
    error = failure.model_dump(include={"code", "message", "retryable"})
    for query_id in query_ids:
        line = {"query_id": query_id, "error": error}
        yield Line(line, f"{_json(line)}\n".encode())


def run_lines(line: dict[str, Any]) -> bytes:
    """Return the lines of a TREC run for a parsed line; none if the query failed."""
    if "documents" not in line:
        return b""
    before, after = f"{line['query_id']} Q0 ", f" {run_tag(line['provenance'])}\n"
    return "".join(
        [
            f"{before}{each['id']} {each['rank']} {each['score']!r}{after}"
            for each in line["documents"]
        ]
    ).encode()


def run_tag(provenance: dict[str, Any]) -> str:
    """Return the tag of a TREC run's lines, which names the model that scored them."""
    name = short_name(str(provenance["model"]))
    return "rerankq-" + "_".join(name.split())


def _rankings(
    result: jobs.JobResult | ResultColumns,
) -> Iterator[tuple[str | None, int, Iterable[_Document]]]:
    """Yield the id, the number of truncated documents, and the documents of each query."""
    if isinstance(result, ResultColumns):
        yield from _rankings_of_columns(result)
        return
    for ranking in result.rankings:
        documents = [
            (
                each.id,
                each.index,
                each.score,
                each.relevance,
                None if each.metadata is None else _json(each.metadata),
            )
            for each in ranking.documents
        ]
        yield ranking.query_id, ranking.truncated, documents


def _rankings_of_columns(
    result: ResultColumns,
) -> Iterator[tuple[str | None, int, Iterable[_Document]]]:
    metadata: list[str | None] = [None] * len(result.ids)
    if result.metadata is not None:
        # The columns have compact JSON.
        metadata = [None if each is None else _json(json.loads(each)) for each in result.metadata]
    documents = list(
        zip(
            result.ids,
            result.indexes,
            result.scores,
            map(relevance, result.scores),
            metadata,
            strict=True,
        )
    )
    for query_id, truncated, (begin, end) in zip(
        result.query_ids or [None] * len(result.counts),
        result.truncated,
        pairwise(result.bounds),
        strict=True,
    ):
        yield query_id, truncated, documents[begin:end]


def _documents(documents: Iterable[_Document]) -> list[str]:
    return [
        f'{{"id": {encode_basestring(id_)}, "index": {index}, "rank": {rank}, "score": {score!r},'
        f' "relevance": {relevance_!r}{_METADATA + metadata if metadata else ""}}}'
        for rank, (id_, index, score, relevance_, metadata) in enumerate(documents, start=1)
    ]


_METADATA = ', "metadata": '


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
