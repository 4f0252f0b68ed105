"""Read corpora and queries: JSONL with the keys of common collections, or tab-separated columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple

from pydantic_core import from_json

from contract.validation import kind_of
from producer.files.quoting import quoted
from producer.formats import values
from producer.formats.detection import FileKind
from producer.formats.keys import ID_KEYS, TEXT_KEYS, first_key, join_title, list_keys
from producer.formats.records import InvalidLines, read_records, records_of


class Text(NamedTuple):
    """A query or a document."""

    id: str
    text: str


def read_texts(path: str, bad: InvalidLines, max_chars: int) -> Iterator[tuple[int, Text]]:
    """Yield the texts of a corpus or of queries. Raises `InvalidInput`.

    Lines are JSON objects, whose title and text are joined as in BEIR; or `id<TAB>text`; or the
    four columns of MS MARCO's documents; or the columns that a header names.
    """
    header: dict[str, int] = {}

    def is_header(line: str) -> bool:
        header.update(_header(line))
        return bool(header)

    def parse(_: int, line: str) -> Text:
        if values.is_json(line):
            text = _json_text(line)
        else:
            text = _named_columns(line, header) if len(header) > 2 else _two_columns(line, header)
        return checked_length(text, max_chars)

    def parse_block(block: str) -> list[Text] | None:
        lines = block.split("\n")
        made = _json_texts(block, lines) if values.is_json(block) else None
        if made is None and not header:
            made = _texts_in_two_columns(lines)
        return None if made is None or max(len(each.text) for each in made) > max_chars else made

    return read_records(path, parse, bad, FileKind.TEXTS, is_header, parse_block)


def checked_length(text: Text, max_chars: int) -> Text:
    """Return the text. Raises `ValueError` if it is too long."""
    if len(text.text) > max_chars:
        raise ValueError(
            f"the text of {quoted(text.id)} has {len(text.text):,} characters; the limit is"
            f" {max_chars:,} (RERANKQ_MAX_TEXT_CHARS)"
        )
    return text


def _json_text(line: str) -> Text:
    data = values.json_object(line)
    id_key = first_key(data, ID_KEYS)
    text_key = first_key(data, TEXT_KEYS)
    if id_key is None or text_key is None:
        raise ValueError(
            f"an id and a text are required, but the keys are {list_keys(data)}; use one of"
            f" {', '.join(ID_KEYS)} for the id, and one of {', '.join(TEXT_KEYS)} for the text"
        )
    values.check_keys(line, (id_key, 1), (text_key, 1), ("title", 1))
    title, text = data.get("title"), data[text_key]
    for key, part in (("title", title), (text_key, text)):
        if part is not None and not isinstance(part, str):
            raise ValueError(f'"{key}" must be a string, not {kind_of(part)}')
    return Text(values.identifier(data[id_key]), join_title(title, text))


def _json_texts(block: str, lines: list[str]) -> list[Text] | None:
    """Return the texts of lines with the same keys; None if `_json_text` must check each."""
    try:
        records = [from_json(line, cache_strings="keys") for line in lines]
    except ValueError:
        return None
    if not isinstance(records[0], dict):
        return None
    keys = records[0].keys()
    id_key = next((key for key in ID_KEYS if key in keys), "")
    text_key = next((key for key in TEXT_KEYS if key in keys), "")
    if any(type(each) is not dict or each.keys() != keys for each in records) or any(
        # An object may have a key twice.
        block.count(f'"{key}"') != len(lines)
        for key in (id_key, text_key, *({"title"} & keys))
    ):
        return None
    ids, texts = [each[id_key] for each in records], [each[text_key] for each in records]
    if set(map(type, (*ids, *texts))) != {str} or not values.are_identifiers(ids):
        return None
    if "title" in keys:
        titles = [each["title"] for each in records]
        if not set(map(type, titles)) <= {str, type(None)}:
            return None
        texts = [
            join_title(title, text) if title else text
            for title, text in zip(titles, texts, strict=True)
        ]
    return _stripped(ids, texts)


def _texts_in_two_columns(lines: list[str]) -> list[Text] | None:
    """Return the texts of lines with one tab each; None for any other lines."""
    rows = [line.split("\t") for line in lines]
    if set(map(len, rows)) != {2} or any(map(values.is_json, lines)):
        return None
    ids = [identifier.strip() for identifier, _ in rows]
    if not values.are_identifiers(ids):
        return None
    return _stripped(ids, [text for _, text in rows])


def _stripped(ids: list[str], texts: list[str]) -> list[Text]:
    return list(records_of(Text, ids, map(str.strip, texts)))


def _header(line: str) -> dict[str, int]:
    """Return the index of each column named in a header; empty for any other line."""
    names = [name.strip().strip('"').lower().replace("-", "_") for name in line.split("\t")]
    named = names[0] in _ID_COLUMNS or (len(names) > 2 and _names_both(names))
    return {name: place for place, name in enumerate(names)} if named and len(names) > 1 else {}


_ID_COLUMNS = frozenset(key.replace("-", "_") for key in ID_KEYS)


def _names_both(names: list[str]) -> bool:
    return not _ID_COLUMNS.isdisjoint(names) and not set(TEXT_KEYS).isdisjoint(names)


def _two_columns(line: str, header: dict[str, int]) -> Text:
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
    if header:
        text = _unquoted(text)
    elif text.startswith(("http://", "https://")) and text.count("\t") == 2:
        # In a line of MS MARCO's documents, the URL is skipped.
        text = join_title(*map(str.strip, text.split("\t")[1:]))
    return Text(values.identifier(identifier.strip()), text.strip())


def _named_columns(line: str, header: dict[str, int]) -> Text:
    columns = line.split("\t")
    if len(columns) != len(header):
        raise ValueError(f"expected {len(header)} columns as in the header, found {len(columns)}")
    named = {name: _unquoted(columns[place].strip()) for name, place in header.items()}
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
