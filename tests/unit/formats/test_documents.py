"""The documents of one query are read from JSON or from texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import InvalidInput
from producer.client import preparing
from producer.formats.documents import read_documents
from tests.unit.formats.samples import (
    documents,
    refusal,
    write,
)


def test_documents_may_be_json_or_one_text_a_line(tmp_path: Path) -> None:
    content = 'a text, with "quotes"\n{"id": 7, "text": "one"}\n{"text": "two"}\n tail \n'
    assert read_documents(write(tmp_path / "docs", content)) == [
        'a text, with "quotes"',
        {"id": "7", "text": "one"},
        {"text": "two"},
        " tail ",
    ]


def test_documents_may_have_the_keys_of_corpora(tmp_path: Path) -> None:
    content = (
        '{"_id": "d1", "title": "Title", "text": "Text", "metadata": {}}\n'
        '{"docid": 7, "contents": "Text"}\n{"id": "d3", "text": "Text", "score": 1.5}\n'
    )
    assert read_documents(write(tmp_path / "docs", content)) == [
        {"id": "d1", "text": "Title Text"},
        {"id": "7", "text": "Text"},
        {"id": "d3", "text": "Text", "score": 1.5},
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "d1"}', "text: is required"),
        ('{"id": "d1", "text": "a", "tags": 1}', "tags: unknown field"),
        ('{"id": "fine", "text": "a"}', "duplicate document id 'fine'"),
        ("one\rtwo", "the text contains a carriage return"),
    ],
)
def test_a_wrong_document_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    content = f'{{"id": "fine", "text": "a"}}\n{line}\n'
    message = refusal(documents, tmp_path / "docs", content)
    assert message.startswith("2: ")
    assert said in message


def test_a_document_that_is_no_json_is_named_by_its_line(tmp_path: Path) -> None:
    assert refusal(documents, tmp_path / "docs", 'fine\n{"id": 1, "text"\n').startswith("2: ")


@pytest.mark.parametrize("identifier", ["[1]", "true", "1.5", "null", '""'])
def test_an_id_that_is_none_does_not_become_one_on_its_way(tmp_path: Path, identifier: str) -> None:
    path = write(tmp_path / "docs", f'fine\n{{"id": {identifier}, "text": "a"}}\n')
    with pytest.raises(InvalidInput):
        preparing.candidates(read_documents(path))
