"""Convert the requests of other rerankers: Cohere's, TEI's, NVIDIA's and rank_llm's."""

from __future__ import annotations

from typing import Any

from contract.validation import kind_of
from producer.files.quoting import quoted
from producer.formats.keys import ID_KEYS, TEXT_KEYS, document_text, first_key

#: Fields of other rerankers' requests that do not change the order of the documents.
_WITHOUT_EFFECT = {
    *("model", "return_documents", "return_text", "raw_scores"),
    *("truncate", "truncation", "truncation_direction"),
    *("max_chunks_per_doc", "max_tokens_per_doc", "priority", "user"),
}


def from_reranker(data: dict[str, Any], list_key: str) -> dict[str, Any]:
    """Return a request of Cohere, TEI or NVIDIA in rerankq's format."""
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
    text = document_text(name, entry)
    return {"id": entry.get("id", str(place)), "text": text}


def from_rank_llm(data: dict[str, Any]) -> dict[str, Any]:
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
        doc = document_text(f"document {quoted(str(entry['docid']))}", doc)
    return {"id": entry["docid"], "text": doc, "score": entry.get("score")}


def with_our_keys(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with "id" and "text" in place of the keys that collections use."""
    if "doc" in entry:
        return _rank_llm_candidate(entry)
    id_key, text_key = first_key(entry, ID_KEYS), first_key(entry, TEXT_KEYS)
    made = {key: value for key, value in entry.items() if key not in (id_key, text_key, "title")}
    if id_key:
        made["id"] = entry[id_key]
    if text_key:
        made["text"] = document_text(name, entry)
    return made
