"""Parse texts in tab-separated columns: two columns, MS MARCO's documents, or those of a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from producer.formats import values
from producer.formats.detection import is_msmarco_document
from producer.formats.keys import ID_KEYS, TEXT_KEYS, join_title, list_keys
from producer.formats.needed import first_columns
from producer.formats.records import records_of
from producer.formats.texts import Text

TWO_COLUMNS, MSMARCO_DOCUMENTS = "tsv", "msmarco-docs"
#: The names that `--input-format` takes: the first lines of such files may look alike.
FORMATS = (TWO_COLUMNS, MSMARCO_DOCUMENTS)

_ID_COLUMNS = frozenset(key.replace("-", "_") for key in ID_KEYS)


class TextColumns:
    """The format of a file, according to its first line or to the user."""

    def __init__(self, chosen: str | None = None) -> None:
        self._chosen = chosen
        #: Whether lines are MS MARCO's documents; None before the first line.
        self._has_documents = None if chosen is None else chosen == MSMARCO_DOCUMENTS
        #: The place of each column that a header names.
        self._header: dict[str, int] = {}

    def is_header(self, line: str) -> bool:
        """Return whether the first line is a header, and use it."""
        names = [name.strip().strip('"').lower().replace("-", "_") for name in line.split("\t")]
        named = names[0] in _ID_COLUMNS or (len(names) > 2 and _names_both(names))
        if not named or len(names) == 1:
            return False
        self._header = {name: place for place, name in enumerate(names)}
        return True

    def parse(self, line: str) -> Text:
        """Return the text of a line. Raises `ValueError`."""
        if len(self._header) > 2:
            return _named_columns(line, self._header)
        if self._header:
            return _two_columns(line, has_quotes=True)
        if self._has_documents is None:
            is_document = is_msmarco_document(line)
            text = _document(line) if is_document else _two_columns(line, has_quotes=False)
            self._has_documents = is_document
            return text
        if self._has_documents:
            return _document(line)
        if not self._chosen and is_msmarco_document(line):
            raise ValueError(
                "this looks like one of MS MARCO's documents (id, URL, title, body), but the first"
                f" line does not; pass --input-format corpus={MSMARCO_DOCUMENTS}, or"
                f" corpus={TWO_COLUMNS} to use the URL as text"
            )
        return _two_columns(line, has_quotes=False)

    def ids(self, block: str) -> list[str] | None:
        """Return the ids of lines without parsing them; None if that is not possible."""
        if self._header:
            return None
        return first_columns(block, "\t", 4 if self._has_documents else 2)

    def parse_lines(self, lines: list[str]) -> list[Text] | None:
        """Return the texts of lines with one tab each; None if `parse` must read each."""
        if self._header or self._has_documents:
            return None
        rows = [line.split("\t") for line in lines]
        if set(map(len, rows)) != {2} or any(map(values.is_json, lines)):
            return None
        ids = [identifier.strip() for identifier, _ in rows]
        if not values.are_identifiers(ids):
            return None
        return stripped_texts(ids, (text for _, text in rows))


def stripped_texts(ids: list[str], texts: Iterable[str]) -> list[Text]:
    """Return a text for each id."""
    return list(records_of(Text, ids, map(str.strip, texts)))


def _names_both(names: list[str]) -> bool:
    return not _ID_COLUMNS.isdisjoint(names) and not set(TEXT_KEYS).isdisjoint(names)


def _two_columns(line: str, *, has_quotes: bool) -> Text:
    identifier, tab, text = line.partition("\t")
    if not tab:
        raise ValueError(
            'expected JSON with "_id" and "text", or an id and a text with a tab between'
        )
    if "\r" in text and "\t" in text.partition("\r")[2]:
        raise ValueError(
            "the line contains a second record after a carriage return; end each record with a line"
            " feed"
        )
    if has_quotes:
        identifier, text = _unquoted(identifier.strip()), _unquoted(text)
    return Text(values.identifier(identifier.strip()), text.strip())


def _document(line: str) -> Text:
    """Return the text of a document of MS MARCO, without its URL."""
    columns = [column.strip() for column in line.split("\t", 3)]
    if len(columns) != 4:
        raise ValueError(
            f"expected MS MARCO's 4 columns (id, URL, title, body), found {len(columns)}"
        )
    return Text(values.identifier(columns[0]), join_title(*columns[2:]))


def _named_columns(line: str, header: dict[str, int]) -> Text:
    columns = line.split("\t")
    if len(columns) != len(header) and '"' in line:  # a tab may be within quotes
        columns = next(csv.reader([line], delimiter="\t"))
    else:
        columns = [_unquoted(column.strip()) for column in columns]
    if len(columns) != len(header):
        raise ValueError(f"expected {len(header)} columns as in the header, found {len(columns)}")
    named = {name: columns[place] for name, place in header.items()}
    id_key = next((key.replace("-", "_") for key in ID_KEYS if key.replace("-", "_") in named), "")
    text_key = next((key for key in TEXT_KEYS if key in named), None)
    if text_key is None:
        raise ValueError(
            f"the header has no text column: its columns are {list_keys(header)}; use one of"
            f" {', '.join(TEXT_KEYS)} for the text"
        )
    return Text(values.identifier(named[id_key]), join_title(named.get("title"), named[text_key]))


def _unquoted(field: str) -> str:
    """Return a column without CSV quotes, which tables with a header may have."""
    if not field.startswith('"'):
        return field
    inner = field[1:-1] if field.endswith('"') and len(field) > 1 else None
    if inner is not None and inner.count('""') * 2 == inner.count('"'):
        return next(csv.reader([field], delimiter="\t"))[0]
    if field.count('"') % 2:
        raise ValueError("a quoted column continues in the next line; use JSONL instead")
    return field
