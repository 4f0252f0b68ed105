"""Refuse a header whose columns are in another order than the one in which they are read."""

from __future__ import annotations

from collections.abc import Sequence

#: Names of columns, in lower case and with underscores.
QUERY_IDS = frozenset({"query_id", "qid", "q_id", "query", "topic_id", "topic"})
_DOCUMENT_IDS = frozenset(
    {"corpus_id", "document_id", "doc_id", "docid", "docno", "did", "pid", "passage_id"}
)


class WrongOrder(Exception):
    """A header names a document where a query is expected, or the reverse."""


def check_order(names: Sequence[str], query: int, document: int) -> None:
    """Raise `WrongOrder` unless the columns at these places may be of a query and a document."""
    if names[query] in _DOCUMENT_IDS or names[document] in QUERY_IDS:
        raise WrongOrder(
            "the header names the document before the query, but columns are read by their places;"
            " write the query first"
        )


def normalized(names: Sequence[str]) -> list[str]:
    """Return names of columns as they are in the sets above."""
    return [name.strip().strip('"').lower().replace("-", "_") for name in names]
