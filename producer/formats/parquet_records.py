"""The records of Parquet files: texts, lines of a run, judgments, and pairs of query and document.

Each reader yields what the reader of text files yields, with the number of a row for that of a
line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from contract.validation import kind_of
from producer.formats import values
from producer.formats.keys import ID_KEYS, TEXT_KEYS, join_title
from producer.formats.parquet import Field, read_rows
from producer.formats.qrels import Judgment
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair
from producer.formats.run_line import RunLine
from producer.formats.texts import Text, checked_length

_QUERY = ("query_id", "qid", "query-id", "topic_id", "topic")
_DOCUMENT = (
    *("document_id", "doc_id", "docid", "docno", "pid", "corpus-id", "passage_id"),
    *("doc-id", "_id", "id"),
)
#: The query of a pair has its own column.
_PASSAGE = tuple(key for key in TEXT_KEYS if key not in ("query", "question"))

TEXTS = {
    option: (
        Field(f"{option}.id", ID_KEYS),
        Field(f"{option}.text", TEXT_KEYS),
        Field(f"{option}.title", ("title",), is_required=False),
    )
    for option in ("corpus", "queries")
}
RUN = (
    Field("run.query", (*_QUERY, "query")),
    Field("run.document", (*_DOCUMENT, "document")),
    Field("run.rank", ("rank",), is_required=False),
    Field("run.score", ("score",)),
)
QRELS = (
    Field("qrels.query", (*_QUERY, "query")),
    Field("qrels.document", (*_DOCUMENT, "document")),
    Field("qrels.relevance", ("relevance", "rel", "score", "label", "grade")),
)
PAIRS = (
    Field("input.query_id", _QUERY),
    Field("input.query", ("query", "query_text", "question")),
    Field("input.document_id", _DOCUMENT),
    Field("input.text", _PASSAGE),
)
#: The names that `--column` takes.
NAMES = tuple(field.name for fields in (*TEXTS.values(), RUN, QRELS, PAIRS) for field in fields)


def read_texts(
    path: str, bad: InvalidLines, max_chars: int, option: str, chosen: Mapping[str, str]
) -> Iterator[tuple[int, Text]]:
    """Yield the texts of a corpus or of queries. A null is an empty text."""

    def parse(id_: Any, text: Any, title: Any) -> Text:
        made = Text(values.identifier(id_), join_title(_text(title, "title"), _text(text, "text")))
        return checked_length(made, max_chars)

    return read_rows(path, TEXTS[option], chosen, parse, bad)


def read_run(
    path: str, bad: InvalidLines, chosen: Mapping[str, str]
) -> Iterator[tuple[int, RunLine]]:
    """Yield the lines of a run. Without a column of ranks, all ranks are 0."""

    def parse(query: Any, document: Any, rank: Any, score: Any) -> RunLine:
        return RunLine(
            values.identifier(query),
            values.identifier(document),
            0 if rank is None else _whole(rank, "rank"),
            _number(score, "score"),
        )

    return read_rows(path, RUN, chosen, parse, bad)


def read_qrels(
    path: str, bad: InvalidLines, chosen: Mapping[str, str]
) -> Iterator[tuple[int, Judgment]]:
    """Yield the judgments."""

    def parse(query: Any, document: Any, relevance: Any) -> Judgment:
        return Judgment(
            values.identifier(query),
            values.identifier(document),
            _whole(relevance, "relevance"),
        )

    return read_rows(path, QRELS, chosen, parse, bad)


def read_pairs(
    path: str, bad: InvalidLines, chosen: Mapping[str, str]
) -> Iterator[tuple[int, Pair]]:
    """Yield rows that each have a query and one of its documents, with their texts."""

    def parse(query_id: Any, query: Any, document_id: Any, text: Any) -> Pair:
        query_text = (_text(query, "query") or "").strip()
        if not query_text:
            raise ValueError("the query is empty")
        return Pair(
            values.identifier(query_id),
            query_text,
            values.identifier(document_id),
            (_text(text, "text") or "").strip(),
        )

    return read_rows(path, PAIRS, chosen, parse, bad)


def _text(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"the {what} must be a string, not {kind_of(value)}")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"the {what} must be a number, not {kind_of(value)}")
    if not math.isfinite(value):
        raise ValueError(f"the {what} is {value}; use a finite number")
    return float(value)


def _whole(value: Any, what: str) -> int:
    return values.whole_number(repr(_number(value, what)), what)
