"""Write the lines of a journal, one for each query, and the lines of the finished files from them.

A line has a list for each field of the ranked documents, because an object for each document takes
several times as long to write and to read. A journal of an earlier version has the objects, as the
lines of `--results` still do; both kinds of lines can be in one journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from pydantic_core import to_json

from contract import jobs
from contract.columns import ResultColumns
from contract.models import short_name
from contract.passages import PASSAGE_FIELDS
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
    "passages",
}

#: The columns of a query's documents; there is no `metadata` if no document has any.
_COLUMNS = ("ids", "indexes", "scores", "metadata")
#: The columns of the documents' passages, if they were cut.
_PASSAGES = "passages"
_OF_DOCUMENTS = {*_COLUMNS, _PASSAGES, "query_id"}

#: The field with the place of another journal's line: see `producer.rescore.selection`.
BASIS = "basis"
#: The field with the number of documents that the large model has scored, and with what is known of
#: the scores of the small model.
CASCADE = "cascade"


class Line(NamedTuple):
    """A line of the journal."""

    #: Its content without the documents.
    head: dict[str, Any]
    text: bytes


def of_result(result: jobs.JobResult | ResultColumns) -> Iterator[Line]:
    """Yield a line for each query of a job."""
    columns = result if isinstance(result, ResultColumns) else ResultColumns.of(result)
    source = columns.provenance.model_dump(include=_OF_A_QUERY)
    given = ((name, getattr(columns, name)) for name in _COLUMNS)
    documents = {name: column for name, column in given if column is not None}
    nothing: list[None] = [None] * len(columns.counts)
    for query_id, truncated, lost, shortened, (begin, end) in zip(
        columns.query_ids or nothing,
        columns.truncated,
        columns.lost_tokens or nothing,
        columns.shortened or nothing,
        pairwise(columns.bounds),
        strict=True,
    ):
        head = {"query_id": query_id, "truncated": truncated, "provenance": source}
        # Left out where there is nothing to say.
        head |= {"lost_tokens": lost} if lost else {}
        head |= {"shortened": shortened} if shortened else {}
        of_query: dict[str, Any] = {name: column[begin:end] for name, column in documents.items()}
        if columns.passages is not None:
            of_query[_PASSAGES] = columns.passages.at(slice(begin, end)).columns()
        yield Line(head, to_json({"query_id": query_id, **of_query, **head}) + b"\n")


def with_cached(line: Line, cached: int) -> Line:
    """Return the line of a ranking with the number of its scores that a cache had."""
    return _with_number(line, "cached", cached)


def with_basis(line: Line, basis: int) -> Line:
    """Return the line with the place of the line in another journal on which it depends."""
    made = _with_number(line, BASIS, basis)
    return made._replace(head=line.head | {BASIS: basis})


def _with_number(line: Line, name: str, number: int) -> Line:
    text = line.text.removesuffix(b"}\n") + f', "{name}": {number}}}\n'.encode()
    return line._replace(text=text)


def of_failure(query_ids: Iterable[str], failure: jobs.Failure) -> Iterator[Line]:
    """Yield a line for each query that has no ranking."""
    error = failure.model_dump(include={"code", "message", "retryable"})
    for query_id in query_ids:
        line = {"query_id": query_id, "error": error}
        yield Line(line, f"{_json(line)}\n".encode())


def has_ranking(line: dict[str, Any]) -> bool:
    """Return whether a parsed line has scores, and not the error of a failed query."""
    return "ids" in line or "documents" in line


def scores(line: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the ids and scores in a parsed line, best first; none if the query failed.

    In a cascade, the scores of the small model are lowered by one number, so that the best of them
    is 1 below the last one of the large model. Otherwise, tools that sort by score would mix both.
    """
    return list(zip(*_ids_and_scores(line), strict=True))


def _ids_and_scores(line: dict[str, Any]) -> tuple[list[str], list[float]]:
    if cascade := line.get(CASCADE):
        return line["ids"], _lowered(line["scores"], cascade["rescored"])
    if "ids" in line:
        return line["ids"], line["scores"]
    documents = line.get("documents", ())
    return [each["id"] for each in documents], [each["score"] for each in documents]


def _lowered(values: list[float], begin: int) -> list[float]:
    """Return the scores with those from `begin` on 1 below the others, in the same order."""
    if begin == len(values):
        return values
    shift = values[begin - 1] - 1 - values[begin]
    return [*values[:begin], *(value + shift for value in values[begin:])]


def run_lines(line: dict[str, Any]) -> bytes:
    """Return the lines of a TREC run for a parsed line; none if the query failed."""
    if not has_ranking(line):
        return b""
    before, after = f"{line['query_id']} Q0 ", f" {run_tag(line)}\n"
    ids, values = _ids_and_scores(line)
    return "".join(
        [
            f"{before}{id_} {rank} {score}{after}"
            for rank, (id_, score) in enumerate(zip(ids, _reprs(values), strict=True), start=1)
        ]
    ).encode()


def _reprs(numbers: Sequence[float]) -> Sequence[str]:
    """Return `repr` of each number."""
    # Between these bounds, where neither has an exponent, `to_json` writes the same digits.
    sizes = list(map(abs, numbers))
    if min(sizes) >= 1e-4 and max(sizes) < 1e16:
        return to_json(numbers).decode()[1:-1].split(",")
    return list(map(repr, numbers))


def result_line(line: dict[str, Any]) -> bytes:
    """Return the line of `--results` for a parsed line."""
    if "ids" not in line:
        return f"{_json(line)}\n".encode()
    rest = {name: value for name, value in line.items() if name not in _OF_DOCUMENTS}
    return (
        f'{{"query_id": {_json(line["query_id"])}, "documents": [{", ".join(_documents(line))}],'
        f" {_json(rest)[1:]}\n"
    ).encode()


def run_tag(line: dict[str, Any]) -> str:
    """Return the tag of a query's lines in a TREC run, which names the models that scored them."""
    sources = [line["provenance"]]
    if cascade := line.get(CASCADE):
        sources.append(cascade["provenance"])
    names = (short_name(str(source["model"])) for source in sources)
    return "rerankq-" + "+".join("_".join(name.split()) for name in names)


def with_small_model(
    line: dict[str, Any], small: dict[str, Any], keep: int, top_k: int | None
) -> dict[str, Any]:
    """Return the ranking of a cascade: the documents of the large model first, then the others.

    `line` is that of the large model for the `keep` best documents in `small`, in the order of the
    input. Both are parsed.
    """
    kept = sorted(small["indexes"][:keep])
    large = line | {"indexes": [kept[index] for index in line["indexes"]]}
    rescored = len(large["ids"])
    merged: dict[str, Any] = {"query_id": line["query_id"]}
    for name in _COLUMNS:
        if name in large or name in small:
            first = large.get(name, [None] * rescored)
            others = small.get(name, [None] * len(small["ids"]))[keep:]
            merged[name] = [*first, *others][:top_k]
    if _PASSAGES in large and _PASSAGES in small:
        merged[_PASSAGES] = {
            name: [*first, *small[_PASSAGES][name][keep:]][:top_k]
            for name, first in large[_PASSAGES].items()
        }
    merged |= {name: line[name] for name in line if name not in {*_OF_DOCUMENTS, BASIS}}
    about = {name: small[name] for name in small if name not in _OF_DOCUMENTS}
    merged[CASCADE] = {"rescored": min(rescored, len(merged["ids"]))} | about
    return merged


def _documents(line: dict[str, Any]) -> list[str]:
    """Return the JSON of each document."""
    scores_ = line["scores"]
    columns = (
        line["ids"],
        line["indexes"],
        _reprs(scores_),
        _reprs(list(map(relevance, scores_))),
        _passages(line),
        [f"{one}{other}" for one, other in zip(_models(line), _metadata(line), strict=True)],
    )
    return [
        f'{{"id": {encode_basestring(id_)}, "index": {index}, "rank": {rank}, "score": {score},'
        f' "relevance": {relevance_}{passage}{more}}}'
        for rank, (id_, index, score, relevance_, passage, more) in enumerate(
            zip(*columns, strict=True), start=1
        )
    ]


def _passages(line: dict[str, Any]) -> Sequence[str]:
    """Return the passage of each document, as its next field."""
    if _PASSAGES not in line:
        return [""] * len(line["ids"])
    columns = (line[_PASSAGES][name] for name in PASSAGE_FIELDS)
    return [
        f', "passage": {{"index": {index}, "begin": {begin}, "end": {end}, "count": {count}}}'
        for index, begin, end, count in zip(*columns, strict=True)
    ]


def _models(line: dict[str, Any]) -> Sequence[str]:
    """Return the model of each document if there are several."""
    if not (cascade := line.get(CASCADE)):
        return [""] * len(line["ids"])
    rescored = cascade["rescored"]
    large, small = (f', "model": {_json(each["provenance"]["model"])}' for each in (line, cascade))
    return [large] * rescored + [small] * (len(line["ids"]) - rescored)


def _metadata(line: dict[str, Any]) -> Sequence[str]:
    """Return what follows the other fields of each document."""
    if "metadata" not in line:
        return [""] * len(line["ids"])
    return [
        "" if each is None else f', "metadata": {_json(json.loads(each))}'
        for each in line["metadata"]
    ]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
