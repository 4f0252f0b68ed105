"""Read first-stage runs: TREC's `query Q0 document rank score tag`, or MS MARCO's three columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from producer.files.quoting import quoted
from producer.formats import msmarco_run, values
from producer.formats.columns import split_words
from producer.formats.detection import FileKind
from producer.formats.headers import check_order, normalized
from producer.formats.needed import Needed, first_columns, parse_needed
from producer.formats.records import InvalidLines, read_records, records_of
from producer.formats.run_line import RunLine

TREC, MSMARCO = "trec", "msmarco"
#: The names that `--input-format` takes.
FORMATS = (TREC, MSMARCO)


def read_run(
    path: str, bad: InvalidLines, chosen: str | None = None
) -> Iterator[tuple[int, RunLine]]:
    """Yield the lines of a TREC run: `query Q0 document rank score tag`.

    Columns are separated by tabs if there are five, else by spaces and tabs. The tag may be
    missing, or have several words.

    If the first line has three columns, all lines are MS MARCO's `query document rank`, and the
    score is the negative rank. Such a file is refused if it could be qrels, unless the user has
    named its format.
    """
    return _read(path, bad, chosen, None)


def read_needed_run(
    path: str, bad: InvalidLines, chosen: str | None, needed: Needed
) -> Iterator[tuple[int, RunLine | None]]:
    """Yield the lines of a run as `read_run` does, with None for queries that are not needed."""
    return _read(path, bad, chosen, needed)


def _read(
    path: str, bad: InvalidLines, chosen: str | None, needed: Needed | None
) -> Iterator[tuple[int, Any]]:
    is_msmarco = None if chosen is None else chosen == MSMARCO

    def parse(_: int, line: str) -> RunLine:
        nonlocal is_msmarco
        if is_msmarco is None:
            is_msmarco = msmarco_run.is_line(line)
        return msmarco_run.line(line) if is_msmarco else _run_line(line)

    def parse_lines(block: str) -> Iterable[RunLine] | None:
        return msmarco_run.lines(block) if is_msmarco else _run_lines(block)

    def parse_block(block: str) -> Iterable[RunLine | None] | None:
        # All lines say whether a file of three columns is a run.
        if needed is None or (is_msmarco and chosen is None):
            return parse_lines(block)
        separator = "\t" if "\t" in block else " "
        ids = first_columns(block, separator, 3 if is_msmarco else 6)
        return parse_needed(block, ids, needed, parse, parse_lines)

    see = needed.see if needed else None
    records: Iterator[tuple[int, Any]] = read_records(
        path, parse, bad, FileKind.RUN, _is_run_header, parse_block, see=see
    )
    for first in records:
        yield first
        doubtful = is_msmarco and chosen is None
        yield from msmarco_run.checked(path, first, records) if doubtful else records


def _run_line(line: str) -> RunLine:
    columns, exact = _run_columns(line)
    if len(columns) < 5:
        raise ValueError(
            "expected a TREC run with 6 columns (query Q0 document rank score tag), found"
            f" {len(columns)}"
        )
    query_id, _q0, document_id, rank, score = columns[:5]
    if len(columns) > 6 or (len(columns) == 6 and not _is_one_word(columns[5])):
        _check_tag(columns, exact)
    try:
        return RunLine(
            values.identifier(query_id),
            values.identifier(document_id),
            values.whole_number(rank, "rank"),
            values.number(score, "score"),
        )
    except ValueError as error:
        if exact or len(columns) <= 6:
            raise
        raise ValueError(f"{error}; {_SHIFTED}") from error


def _run_lines(text: str) -> Iterable[RunLine] | None:
    """Return the records of lines with six columns, without a call for each; None for others."""
    parts = text.split("\t" if "\t" in text else " ")
    # Between two lines, a part has the tag of the first and the query of the second.
    between = parts[5:-1:5]
    if len(parts) != 5 * text.count("\n") + 6 or not all("\n" in part for part in between):
        return None
    outer = "\n".join((parts[0], *between, parts[-1])).split("\n")
    query_ids, tags = outer[::2], outer[1::2]
    q0, document_ids, ranks, scores = (parts[place::5] for place in range(1, 5))
    if (
        "" in q0
        or not values.are_identifiers(list(set(query_ids)))
        or not values.are_identifiers(document_ids)
        or not all(map(_is_one_word, set(tags)))
    ):
        return None
    whole, numbers = values.whole_numbers(ranks), values.numbers(scores)
    if whole is None or numbers is None:
        return None
    return records_of(RunLine, query_ids, document_ids, whole, numbers)


_SHIFTED = "an id may contain white space, which a TREC run cannot represent"


def _run_columns(line: str) -> tuple[list[str], bool]:
    """Return the columns of a line, and whether tabs alone separate them."""
    if "\t" in line:
        columns = [column.strip() for column in line.split("\t", 5)]
        if line.count("\t") == 5 or (len(columns) >= 5 and all(columns)):
            return columns, True
    return split_words(line), False


@lru_cache(maxsize=256)  # the tag is usually the same in all lines
def _is_one_word(tag: str) -> bool:
    return len(tag.split()) == 1 and not values.looks_like_a_number(tag)


def _check_tag(columns: list[str], exact: bool) -> None:
    """Refuse a tag that is a number, or that contains another record."""
    words = " ".join(columns[5:]).split()
    for place, word in enumerate(words[1:], start=1):
        ranked = words[place + 2 : place + 4]
        if word.upper() == "Q0" or (
            word == columns[1] and len(ranked) == 2 and all(map(_is_number, ranked))
        ):
            raise ValueError(
                f"the line contains a second record, starting at {quoted(words[place - 1])}; insert"
                " the missing line break"
            )
    numbers = bool(words) and _is_number(words[0]) and _is_number(columns[3])
    if exact or not numbers or "." in columns[4]:
        return
    # If "score" is an integer and "tag" begins with a number, that number may be the score.
    if len(words) > 1 or "." in words[0]:
        raise ValueError(
            f"columns 4 to 6 are all numbers ({' '.join([*columns[3:5], words[0]])}): {_SHIFTED};"
            " if no id does, separate the columns with tabs"
        )


_is_number = values.looks_like_a_number


def _is_run_header(line: str) -> bool:
    names = normalized(_run_columns(line)[0])
    if names[3:5] == ["rank", "score"]:
        check_order(names, 0, 2)
        return True
    if len(names) != 3 or names[2] != "rank":
        return False
    check_order(names, 0, 1)
    return True
