"""The files that people have: BEIR and TSV collections, TREC runs, qrels, request lines.

Each reader yields one item a line, with the line's number. A line that is wrong raises
`InvalidInput` as `file:line: what`, or is counted and passed over if `BadLines` says so. Files may
be packed, whatever their names (see `producer.files.opening`); `-` is standard input.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from producer.files.opening import STDIN as STDIN
from producer.files.quoting import quoted
from producer.formats import fields
from producer.formats.lines import BadLines as BadLines
from producer.formats.lines import items
from producer.formats.recognition import Content
from producer.formats.requests import Pair as Pair
from producer.formats.requests import documents as documents
from producer.formats.requests import requests as requests
from producer.formats.texts import Text as Text
from producer.formats.texts import join_title as join_title
from producer.formats.texts import texts as texts

#: What stands in the second column of a TREC file, as a rule.
_ITERATIONS = ("Q0", "q0", "0")


class RunLine(NamedTuple):
    """A line of a TREC run."""

    query_id: str
    document_id: str
    rank: int
    score: float


class Judgment(NamedTuple):
    """A line of a qrels file."""

    query_id: str
    document_id: str
    relevance: int


def run(path: str, bad: BadLines) -> Iterator[tuple[int, RunLine]]:
    """Yield the lines of a TREC run: `query Q0 document rank score tag`.

    Columns are separated by tabs if there are five, else by spaces and tabs. The tag may be
    missing, or have several words.
    """
    return items(path, _run_line, bad, Content.RUN, _is_run_header)


def qrels(path: str, bad: BadLines) -> Iterator[tuple[int, Judgment]]:
    """Yield judgments: BEIR's TSV (`query document relevance`, with a header) or TREC's columns."""
    return items(path, _judgment, bad, Content.QRELS, _is_qrels_header)


def _run_line(_: int, line: str) -> RunLine:
    columns, exact = _run_columns(line)
    if len(columns) < 5:
        raise ValueError(
            f"a TREC run has 6 columns (query Q0 document rank score tag), here {len(columns)}"
        )
    query_id, _q0, document_id, rank, score = columns[:5]
    if len(columns) > 6 or (len(columns) == 6 and not _is_one_word(columns[5])):
        _check_tag(columns, exact)
    try:
        return RunLine(
            fields.identifier(query_id),
            fields.identifier(document_id),
            fields.whole_number(rank, "rank"),
            fields.number(score, "score"),
        )
    except ValueError as error:
        if exact or len(columns) <= 6:
            raise
        raise ValueError(f"{error}; {_SHIFTED}") from error


_SHIFTED = "does an id hold white space? That is refused: a TREC run could not hold it"


def _run_columns(line: str) -> tuple[list[str], bool]:
    """Return the columns of a line, and whether tabs alone separate them."""
    if "\t" in line:
        columns = [column.strip() for column in line.split("\t", 5)]
        if line.count("\t") == 5 or (len(columns) >= 5 and all(columns)):
            return columns, True
    return _words(line), False


def _words(line: str) -> list[str]:
    """Return what stands between spaces and tabs: other white space may be part of an id."""
    words = line.replace("\t", " ").split(" ")
    return [word for word in words if word] if "" in words else words


@lru_cache(maxsize=256)  # it is the same tag in each line
def _is_one_word(tag: str) -> bool:
    return len(tag.split()) == 1 and not fields.looks_like_a_number(tag)


def _check_tag(columns: list[str], exact: bool) -> None:
    """Refuse a tag that is, or begins with, something else than a tag."""
    words = " ".join(columns[5:]).split()
    for place, word in enumerate(words[1:], start=1):
        ranked = words[place + 2 : place + 4]
        if word.upper() == "Q0" or (
            word == columns[1] and len(ranked) == 2 and all(map(_is_number, ranked))
        ):
            raise ValueError(
                f"a second record in the line, from {quoted(words[place - 1])} on: a line break is"
                " missing before it"
            )
    numbers = bool(words) and _is_number(words[0]) and _is_number(columns[3])
    if exact or not numbers or "." in columns[4]:
        return
    # Of a whole "score" and a "tag" that begins with a number, the second may be the score.
    if len(words) > 1 or "." in words[0]:
        raise ValueError(
            f"the columns 4 to 6 are numbers ({' '.join([*columns[3:5], words[0]])}); {_SHIFTED};"
            " if it does not, separate the columns with tabs"
        )


_is_number = fields.looks_like_a_number


def _is_run_header(line: str) -> bool:
    names = [name.lower() for name in _run_columns(line)[0]]
    return names[3:5] == ["rank", "score"]


def _judgment(_: int, line: str) -> Judgment:
    columns = _qrels_columns(line)
    if len(columns) not in (3, 4):
        raise ValueError(
            f"qrels have 3 columns (query, document, relevance) or TREC's 4, here {len(columns)}"
        )
    return Judgment(
        fields.identifier(columns[0]),
        fields.identifier(columns[-2]),
        fields.whole_number(columns[-1], "relevance"),
    )


def _qrels_columns(line: str) -> list[str]:
    words, columns = _words(line), line.rstrip().lstrip(" ").split("\t")
    if len(columns) == 4 or (len(columns) == 3 and not _is_mixed(words)):
        return [column.strip() for column in columns]
    return words


def _is_mixed(words: list[str]) -> bool:
    """Return whether these are TREC's four columns, separated by tabs and spaces."""
    return len(words) == 4 and words[1] in _ITERATIONS


def _is_qrels_header(line: str) -> bool:
    names = [name.strip('"').lower().replace("-", "_") for name in _qrels_columns(line)]
    return len(names) in (3, 4) and (names[0] in _QUERY_HEADERS or names[-1] in _SCORE_HEADERS)


_QUERY_HEADERS = ("query_id", "qid", "q_id", "query", "topic_id", "topic")
_SCORE_HEADERS = ("score", "relevance", "rel", "label", "grade")
