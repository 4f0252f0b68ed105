"""Read request lines: a query with its documents per line, in the formats of several rerankers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from contract import jobs
from producer.formats import batch_lines, values
from producer.formats.detection import FileKind
from producer.formats.headers import WrongOrder, check_order, normalized
from producer.formats.keys import DOCUMENT_KEYS, list_keys
from producer.formats.needed import Needed, first_columns, first_values, parse_needed
from producer.formats.records import InvalidLines, read_records
from producer.formats.reranker_requests import (
    from_rank_llm,
    from_reranker,
    with_our_keys,
)


class Pair(NamedTuple):
    """A line of MS MARCO's top1000: one candidate, with the text of its query."""

    query_id: str
    query: str
    document_id: str
    text: str


def read_requests(path: str, bad: InvalidLines) -> Iterator[tuple[int, jobs.Request | Pair]]:
    """Yield the requests of a file. Raises `InvalidInput`.

    Lines are rerankq's or rank_llm's JSON; a query with "documents" (Cohere), "texts" (TEI) or
    "passages", whose indexes become their ids; or the four columns of MS MARCO's top1000. The id
    of a query defaults to its line number. A line of a batch file, `{"custom_id", "body"}`, has one
    of these requests as its body. A JSON array has a request as each element.
    """
    return read_records(path, _parse, bad, FileKind.REQUESTS, _is_header_of_pairs, arrays=True)


def read_needed_requests(
    path: str, bad: InvalidLines, needed: Needed
) -> Iterator[tuple[int, jobs.Request | Pair | None]]:
    """Yield the requests of a file as `read_requests` does, with None for those not needed."""

    def parse_block(block: str) -> Iterable[jobs.Request | Pair | None] | None:
        return parse_needed(block, _ids(block), needed, _parse)

    return read_records(
        path,
        _parse,
        bad,
        FileKind.REQUESTS,
        _is_header_of_pairs,
        parse_block,
        arrays=True,
        see=needed.see,
    )


def _parse(number: int, line: str) -> jobs.Request | Pair:
    if values.is_json(line) or line.count("\t") < 3:
        return _request(number, line)
    return _pair(line)


def _ids(block: str) -> list[str] | None:
    """Return the ids of queries without parsing their lines; None if that is not possible."""
    if not values.is_json(block):
        return first_columns(block, "\t", 4)
    # A line of a batch file, or one with the key twice, is read as a whole.
    if '"custom_id"' in block or block.count('"query_id"') != block.count("\n") + 1:
        return None
    return first_values(block, ("query_id",))


def _is_header_of_pairs(line: str) -> bool:
    names = normalized(line.split("\t"))
    if len(names) != 4 or {"qid", "query_id"}.isdisjoint(names):
        return False
    check_order(names, 0, 1)
    if names[3] == "query":
        raise WrongOrder("the header names the passage before the query; write the query first")
    return True


def _pair(line: str) -> Pair:
    query_id, document_id, query, text = (column.strip() for column in line.split("\t", 3))
    if not query:
        raise ValueError("the query is empty")
    return Pair(values.identifier(query_id), query, values.identifier(document_id), text)


def _request(number: int, line: str) -> jobs.Request:
    if not line.lstrip().startswith(("{", "[")):
        raise ValueError(
            'expected JSON with "query" and "candidates", or the four columns of MS MARCO\'s'
            " top1000"
        )
    data = values.json_object(line)
    if batch_lines.is_batch_line(data):
        data = batch_lines.request_of(data)
    for key in batch_lines.MOST_DOCUMENTS:
        if key in data:
            raise ValueError(f'"{key}" cannot be set per query; use --top-k for the whole run')
    list_key = next((key for key in ("candidates", *DOCUMENT_KEYS) if key in data), None)
    if "query" not in data or list_key is None:
        raise ValueError(
            f'"query" and "candidates" are required, but the keys are {list_keys(data)}; instead of'
            f' "candidates", you can use {", ".join(DOCUMENT_KEYS)}'
        )
    entries = data[list_key]
    if isinstance(entries, list):
        nested = isinstance(data.get("query"), dict)
        most = len(entries)
        ids = ("docid" if nested else "id", most)
        values.check_keys(line, ("query", 1), (list_key, 1), ids, ("text", most + nested))
    if list_key in DOCUMENT_KEYS:
        data = from_reranker(data, list_key)
    elif isinstance(data.get("query"), dict):
        data = from_rank_llm(data)
    given = data.get("query_id")
    data["query_id"] = str(number) if given is None else values.identifier(given)
    entries = data.get("candidates")
    if isinstance(entries, list):
        data["candidates"] = [_candidate(place, entry) for place, entry in enumerate(entries)]
        if "NaN" in line or "Infinity" in line:
            data["candidates"] = [_without_nan(entry) for entry in data["candidates"]]
    return jobs.parse(jobs.Request, data)


def _candidate(place: int, entry: Any) -> Any:
    """Return a candidate in rerankq's format with a string as id; it is validated later."""
    if not isinstance(entry, dict):
        return entry
    if "id" not in entry or "text" not in entry:
        entry = with_our_keys(f"candidates[{place}]", entry)
    return {**entry, "id": values.identifier(entry["id"])} if "id" in entry else entry


def _without_nan(entry: Any) -> Any:
    """Return the candidate with null for NaN in its metadata, because JSON has no NaN."""
    if isinstance(entry, dict) and "metadata" in entry:
        return {**entry, "metadata": _finite(entry["metadata"])}
    return entry


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
