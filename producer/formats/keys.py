"""Find ids and texts by the keys that collections use for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.validation import kind_of
from producer.files.quoting import shown

#: Keys for the id of a document or a query: BEIR's first, then those of ir_datasets, Pyserini and
#: other collections. MS MARCO's passages have "pid", and the "docid" of their document.
ID_KEYS = (
    *("_id", "id", "doc_id", "pid", "docid", "docno", "query_id", "qid"),
    *("passage_id", "document_id", "doc-id", "query-id", "corpus-id", "question_id", "topic_id"),
)
#: Keys for the text, in the order in which rank_llm looks for them.
TEXT_KEYS = (
    *("text", "segment", "contents", "content", "body", "passage"),
    *("document", "query", "question"),
)
#: Keys for the documents of a request, in addition to "candidates".
DOCUMENT_KEYS = ("documents", "texts", "passages")


#: The number of keys of a line that a message names.
_KEYS_SHOWN = 8


def first_key(data: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """Return the first of `keys` with a value in `data`, or else the first that is null."""
    null = None
    for key in keys:
        if key in data:
            if data[key] is not None:
                return key
            null = null or key
    return null


def list_keys(data: Mapping[str, Any]) -> str:
    """Return the first keys of a line, for a message."""
    more = f", ... ({len(data):,} keys)" if len(data) > _KEYS_SHOWN else ""
    return (", ".join(map(shown, list(data)[:_KEYS_SHOWN])) or "none") + more


def join_title(title: str | None, text: str | None) -> str:
    """Return title and text as one text, as BEIR's models read them."""
    return f"{title or ''} {text or ''}".strip()


def document_text(name: str, document: Mapping[str, Any]) -> str:
    key = first_key(document, TEXT_KEYS)
    text = document[key] if key else None
    title = document.get("title")
    if not isinstance(text, str):
        raise ValueError(
            f"{name} has no text: its keys are {list_keys(document)}; use one of"
            f" {', '.join(TEXT_KEYS)} for the text"
        )
    if title is not None and not isinstance(title, str):
        raise ValueError(f'{name}: "title" must be a string, not {kind_of(title)}')
    return join_title(title, text)
