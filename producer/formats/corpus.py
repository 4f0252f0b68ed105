"""Read corpora and queries: JSONL with the keys of common collections, or tab-separated columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic_core import from_json

from contract.validation import kind_of
from producer.formats import values
from producer.formats.detection import FileKind
from producer.formats.keys import ID_KEYS, TEXT_KEYS, first_key, join_title, list_keys
from producer.formats.needed import Needed, first_values, parse_needed
from producer.formats.records import InvalidLines, read_records
from producer.formats.text_columns import TextColumns, stripped_texts
from producer.formats.texts import Text, checked_length


def read_texts(
    path: str, bad: InvalidLines, max_chars: int, chosen: str | None = None
) -> Iterator[tuple[int, Text]]:
    """Yield the texts of a corpus or of queries. Raises `InvalidInput`.

    Lines are JSON objects, whose title and text are joined as in BEIR; or `id<TAB>text`; or the
    four columns of MS MARCO's documents; or the columns that a header names. `chosen` is the format
    of columns that the user has named.
    """
    reader = _Reader(max_chars, chosen)
    return read_records(
        path, reader.parse, bad, FileKind.TEXTS, reader.columns.is_header, reader.parse_block
    )


def read_needed_texts(
    path: str, bad: InvalidLines, max_chars: int, chosen: str | None, needed: Needed
) -> Iterator[tuple[int, Text | None]]:
    """Yield the texts of a corpus as `read_texts` does, with None for those not needed."""
    reader = _Reader(max_chars, chosen)

    def parse_block(block: str) -> Iterable[Text | None] | None:
        return parse_needed(block, reader.ids(block), needed, reader.parse, reader.parse_block)

    return read_records(
        path,
        reader.parse,
        bad,
        FileKind.TEXTS,
        reader.columns.is_header,
        parse_block,
        see=needed.see,
    )


class _Reader:
    """Parses the lines of one file."""

    def __init__(self, max_chars: int, chosen: str | None) -> None:
        self.columns = TextColumns(chosen)
        self._max_chars = max_chars

    def parse(self, _: int, line: str) -> Text:
        text = _json_text(line) if values.is_json(line) else self.columns.parse(line)
        return checked_length(text, self._max_chars)

    def parse_block(self, block: str) -> list[Text] | None:
        lines = block.split("\n")
        made = _json_texts(block, lines) if values.is_json(block) else None
        if made is None:
            made = self.columns.parse_lines(lines)
        if made is None or max(len(each.text) for each in made) > self._max_chars:
            return None
        return made

    def ids(self, block: str) -> list[str] | None:
        """Return the ids of lines without parsing them; None if that is not possible."""
        return first_values(block, ID_KEYS) if values.is_json(block) else self.columns.ids(block)


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
    return stripped_texts(ids, texts)
