"""Queries with their documents in one line each, in the shapes that rerankers take; documents of
one query.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from contract import jobs
from contract.validation import kind_of
from producer.files.quoting import quoted
from producer.formats import fields
from producer.formats.lines import BadLines, items
from producer.formats.recognition import DOCUMENT_KEYS, ID_KEYS, TEXT_KEYS, Content
from producer.formats.texts import first_key, join_title, listed

#: Fields of other rerankers' requests that do not change the order of the documents.
_WITHOUT_EFFECT = {
    *("model", "return_documents", "return_text", "raw_scores"),
    *("truncate", "truncation", "truncation_direction"),
    *("max_chunks_per_doc", "max_tokens_per_doc"),
}
_FOR_THE_WHOLE_RUN = ("top_k", "top_n")


class Pair(NamedTuple):
    """A line of MS MARCO's top1000: one candidate, with the text of its query."""

    query_id: str
    query: str
    document_id: str
    text: str


def requests(path: str, bad: BadLines) -> Iterator[tuple[int, jobs.Request | Pair]]:
    """Yield self-contained lines. Raises `InvalidInput`.

    Lines are this project's JSON or rank_llm's; a query with "documents" (Cohere), "texts" (TEI) or
    "passages", whose places become their ids; or the four columns of MS MARCO's top1000. A line
    without a query id gets its number.
    """

    def parse(number: int, line: str) -> jobs.Request | Pair:
        if fields.is_json(line) or line.count("\t") != 3:
            return _request(number, line)
        return _pair(line)

    return items(path, parse, bad, Content.REQUESTS)


def documents(path: str) -> list[dict[str, Any] | str]:
    """Return the documents of one query: one text a line, or JSONL. Raises `InvalidInput`.

    JSON is this project's (`{"id", "text"}`, with "score" and "metadata"), or has the keys that
    corpora have.
    """
    seen: set[str] = set()

    def parse(_: int, line: str) -> dict[str, Any] | str:
        if not fields.is_json(line):
            if "\r" in line:
                raise ValueError("a carriage return inside a text: records end in a line feed")
            return line
        data = _document(fields.json_object(line))
        if "id" in data:
            if data["id"] in seen:
                raise ValueError(f"document id {quoted(data['id'])} stands twice")
            seen.add(data["id"])
        return data

    return [item for _, item in items(path, parse, BadLines(), Content.DOCUMENTS)]


def _document(data: dict[str, Any]) -> dict[str, Any]:
    id_key, text_key = first_key(data, ID_KEYS), first_key(data, TEXT_KEYS)
    if (id_key or "id") != "id" or (text_key or "text") != "text" or "title" in data:
        data = {"text": _text_of("the document", data)} | ({"id": data[id_key]} if id_key else {})
    if type(data.get("id")) is int:
        data = {**data, "id": str(data["id"])}
    jobs.parse(jobs.Candidate, {"id": "-", **data})
    return data


def _pair(line: str) -> Pair:
    query_id, document_id, query, text = (column.strip() for column in line.split("\t"))
    if not query:
        raise ValueError("the query is empty")
    return Pair(fields.identifier(query_id), query, fields.identifier(document_id), text)


def _request(number: int, line: str) -> jobs.Request:
    if not line.lstrip().startswith(("{", "[")):
        raise ValueError(
            'not JSON ({"query", "candidates": [{"id", "text"}]}), nor the four columns of MS'
            " MARCO's top1000"
        )
    data = fields.json_object(line)
    for key in _FOR_THE_WHOLE_RUN:
        if key in data:
            raise ValueError(f'"{key}" is for the whole run: use --top-k')
    list_key = next((key for key in ("candidates", *DOCUMENT_KEYS) if key in data), None)
    if "query" not in data or list_key is None:
        raise ValueError(
            f'a request needs "query" and "candidates": its keys are {listed(data)}; candidates may'
            f" also stand under {', '.join(DOCUMENT_KEYS)}"
        )
    entries = data[list_key]
    if isinstance(entries, list):
        nested = isinstance(data.get("query"), dict)
        most = len(entries)
        ids = ("docid" if nested else "id", most)
        fields.check_keys(line, ("query", 1), (list_key, 1), ids, ("text", most + nested))
    if list_key in DOCUMENT_KEYS:
        data = _from_reranker(data, list_key)
    elif isinstance(data.get("query"), dict):
        data = _from_rank_llm(data)
    given = data.get("query_id")
    data["query_id"] = str(number) if given is None else fields.identifier(given)
    entries = data.get("candidates")
    if isinstance(entries, list):
        data["candidates"] = [_candidate(place, entry) for place, entry in enumerate(entries)]
        if "NaN" in line or "Infinity" in line:
            data["candidates"] = [_without_nan(entry) for entry in data["candidates"]]
    return jobs.parse(jobs.Request, data)


def _from_reranker(data: dict[str, Any], list_key: str) -> dict[str, Any]:
    """Return our request for one of Cohere's, TEI's or NVIDIA's shape."""
    query, entries = data["query"], data[list_key]
    if not isinstance(entries, list):
        raise ValueError(f'"{list_key}" must be a list, not {kind_of(entries)}')
    made = {key: value for key, value in data.items() if key not in (list_key, *_WITHOUT_EFFECT)}
    if isinstance(query, dict):
        made["query"] = query.get("text")
    made["candidates"] = [
        _reranker_document(f"{list_key}[{place}]", place, entry)
        for place, entry in enumerate(entries)
    ]
    return made


def _reranker_document(name: str, place: int, entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"id": str(place), "text": entry}
    if not isinstance(entry, dict):
        raise ValueError(f"{name}: must be a string or an object, not {kind_of(entry)}")
    text = _text_of(name, entry)
    return {"id": entry.get("id", str(place)), "text": text}


def _from_rank_llm(data: dict[str, Any]) -> dict[str, Any]:
    query = data["query"]
    entries = data.get("candidates")
    if not isinstance(entries, list):
        raise ValueError('"candidates" must be a list')
    return {
        "query_id": query.get("qid"),
        "query": query.get("text"),
        "candidates": [_rank_llm_candidate(entry) for entry in entries],
    }


def _rank_llm_candidate(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or "docid" not in entry:
        raise ValueError('each candidate needs "docid" and "doc"')
    doc = entry.get("doc")
    if isinstance(doc, dict):
        doc = _text_of(f"document {quoted(str(entry['docid']))}", doc)
    return {"id": entry["docid"], "text": doc, "score": entry.get("score")}


def _text_of(name: str, document: Mapping[str, Any]) -> str:
    key = first_key(document, TEXT_KEYS)
    text = document[key] if key else None
    title = document.get("title")
    if not isinstance(text, str):
        raise ValueError(
            f"{name} has no text: its keys are {listed(document)}; a text"
            f" is looked for in {', '.join(TEXT_KEYS)}"
        )
    if title is not None and not isinstance(title, str):
        raise ValueError(f'{name}: "title" must be a string, not {kind_of(title)}')
    return join_title(title, text)


def _candidate(place: int, entry: Any) -> Any:
    """Return a candidate of our shape, its id a string; what is wrong with it is found later."""
    if not isinstance(entry, dict):
        return entry
    if "id" not in entry or "text" not in entry:
        entry = _with_our_keys(f"candidates[{place}]", entry)
    return {**entry, "id": fields.identifier(entry["id"])} if "id" in entry else entry


def _with_our_keys(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with "id" and "text" for the keys that collections have in their place."""
    if "doc" in entry:
        return _rank_llm_candidate(entry)
    id_key, text_key = first_key(entry, ID_KEYS), first_key(entry, TEXT_KEYS)
    made = {key: value for key, value in entry.items() if key not in (id_key, text_key, "title")}
    if id_key:
        made["id"] = entry[id_key]
    if text_key:
        made["text"] = _text_of(name, entry)
    return made


def _without_nan(entry: Any) -> Any:
    """Return the candidate with null for NaN in its metadata, which JSON cannot hold."""
    if isinstance(entry, dict) and "metadata" in entry:
        return {**entry, "metadata": _finite(entry["metadata"])}
    return entry


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
