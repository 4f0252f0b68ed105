"""Read relevance judgments (qrels), in BEIR's or TREC's columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from producer.formats import values
from producer.formats.columns import split_words
from producer.formats.detection import FileKind
from producer.formats.headers import QUERY_IDS, check_order, normalized
from producer.formats.records import InvalidLines, read_records

#: Common values of the second column in TREC's files.
_ITERATIONS = ("Q0", "q0", "0")


class Judgment(NamedTuple):
    """A line of a qrels file."""

    query_id: str
    document_id: str
    relevance: int


def read_qrels(path: str, bad: InvalidLines) -> Iterator[tuple[int, Judgment]]:
    """Yield judgments: BEIR's TSV (`query document relevance`, with a header) or TREC's columns."""
    return read_records(path, _judgment, bad, FileKind.QRELS, _is_qrels_header)


def _judgment(_: int, line: str) -> Judgment:
    columns = _qrels_columns(line)
    if len(columns) not in (3, 4):
        raise ValueError(
            "expected qrels with 3 columns (query document relevance) or 4 columns (query 0"
            f" document relevance), found {len(columns)}"
        )
    return Judgment(
        values.identifier(columns[0]),
        values.identifier(columns[-2]),
        values.whole_number(columns[-1], "relevance"),
    )


def _qrels_columns(line: str) -> list[str]:
    words, columns = split_words(line), line.rstrip().lstrip(" ").split("\t")
    if len(columns) == 4 or (len(columns) == 3 and not _is_mixed(words)):
        return [column.strip() for column in columns]
    return words


def _is_mixed(words: list[str]) -> bool:
    """Return whether these are TREC's four columns, separated by tabs and spaces."""
    return len(words) == 4 and words[1] in _ITERATIONS


def _is_qrels_header(line: str) -> bool:
    names = normalized(_qrels_columns(line))
    if len(names) not in (3, 4) or (names[0] not in QUERY_IDS and names[-1] not in _SCORE_HEADERS):
        return False
    check_order(names, 0, -2)
    return True


_SCORE_HEADERS = ("score", "relevance", "rel", "label", "grade")
