"""Documents and queries are read in the layouts of public collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.formats.corpus import read_texts
from producer.formats.documents import read_documents
from producer.formats.records import InvalidLines
from producer.formats.texts import Text
from tests.unit.formats.samples import (
    read,
    refusal,
    texts,
    write,
)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"_id": "d1", "title": "Title", "text": "Text"}', "Title Text"),
        ('{"_id": "d1", "title": "", "text": "Text"}', "Text"),
        ('{"_id": "d1", "title": null, "text": "Text", "metadata": {"a": 1}}', "Text"),
        ('{"_id": "d1", "title": "Title", "text": ""}', "Title"),
        ('{"_id": "d1", "title": "Title", "text": null}', "Title"),
        ('{"_id": "d1", "text": ""}', ""),
        *((f'{{"{name}": "d1", "text": "Text"}}', "Text") for name in ("id", "doc_id", "docno")),
        *((f'{{"{name}": "d1", "text": "Text"}}', "Text") for name in ("docid", "query_id", "qid")),
        *((f'{{"id": "d1", "{name}": "Text"}}', "Text") for name in ("contents", "content")),
        *((f'{{"id": "d1", "{name}": "Text"}}', "Text") for name in ("passage", "body", "segment")),
        ('{"qid": "d1", "query": "Text"}', "Text"),
        ('{"pid": "d1", "passage": "Text", "spans": "(0,1)", "docid": "other"}', "Text"),
        ('{"docid": "d1", "url": "u", "title": "T", "headings": "H", "body": "B"}', "T B"),
        ('{"id": "d1", "text": null, "contents": "Text"}', "Text"),
        ('{"_id": "d1", "text": "Text", "year": NaN, "limit": -Infinity}', "Text"),
        ("d1\thttps://host/page\tTitle\tThe body", "Title The body"),
        ("d1\thttps://host/page\t\tThe body", "The body"),
        ("d1\thttps://host/page", "https://host/page"),
        ('d1\t"quoted" and "not"', '"quoted" and "not"'),
        ("d1\tone\rtwo", "one\rtwo"),
        ('{"id": "d1", "title": "Title", "contents": "Text"}', "Title Text"),
        ('{"_id": "d1", "id": "other", "text": "Text"}', "Text"),
        ('{"_id": "d1", "text": "two\\nlines \\u00fc"}', "two\nlines ü"),
        (' {"_id": "d1", "text": "Text"} ', "Text"),
        ("d1\tText", "Text"),
        ("d1\tText\twith\ttabs", "Text\twith\ttabs"),
        ("d1\t", ""),
        (" d1 \t Text ", "Text"),
    ],
)
def test_title_and_text_are_joined_as_beir_does_and_tsv_has_an_id_before_its_tab(
    tmp_path: Path, line: str, text: str
) -> None:
    assert read(texts, tmp_path / "file", f"{line}\n") == [Text("d1", text)]


def test_a_whole_number_may_be_an_id(tmp_path: Path) -> None:
    content = '{"_id": 7, "text": "a"}\n007\tb\n{"_id": -1, "text": "c"}\n'
    assert [each.id for each in read(texts, tmp_path / "file", content)] == ["7", "007", "-1"]


@pytest.mark.parametrize("header", ["id\ttext", "_id\ttext", "QID\tquery", "query-id\tquery"])
def test_a_header_in_the_first_line_of_a_tsv_is_no_item(tmp_path: Path, header: str) -> None:
    for start in ("", "\ufeff"):
        content = f"{start}{header}\nd1\tone\n"
        assert read(texts, tmp_path / "file", content) == [Text("d1", "one")]
    assert len(read(texts, tmp_path / "file", f"d1\tone\n{header}\n")) == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("id\ttext\ttitle\nd1\tText\tTitle\n", "Title Text"),
        ('id\ttext\ttitle\nd1\t"A ""quoted"" text"\tTitle\n', 'Title A "quoted" text'),
        ("\tid\ttext\n0\td1\tText\n", "Text"),
        ('id\ttext\nd1\t"A ""quoted"" text"\n', 'A "quoted" text'),
        ('id\ttext\ttitle\nd1\t"A\ttab"\tTitle\n', "Title A\ttab"),
        ('"id"\t"text"\n"d1"\t"A\ttab"\n', "A\ttab"),
        ("doc-id\turl\tbody\nd1\tu\tText\n", "Text"),
    ],
)
def test_a_header_names_the_columns(tmp_path: Path, content: str, text: str) -> None:
    assert read(texts, tmp_path / "file", content) == [Text("d1", text)]


@pytest.mark.parametrize(
    "text",
    [
        "0 of 3 4 apples",
        "0 degrees 3",
        "Q0 is 3 4",
        "one, two",
        "3",
        "a\tb",
        "7\tb c\td",
        "[1] a",
        "",
    ],
)
def test_a_text_is_not_taken_for_another_kind_of_line(tmp_path: Path, text: str) -> None:
    assert read(texts, tmp_path / "file", f"d1\t{text}\n") == [Text("d1", text)]


DOCUMENT = "d1\thttps://host/page\tTitle\tThe body"
LIKE_A_DOCUMENT = "d2\thttps://host\tis a\tpage"


def test_the_first_line_tells_whether_lines_are_documents_of_ms_marco(tmp_path: Path) -> None:
    content = f"{DOCUMENT}\nd2\t\t\tNo URL\nd3\thttp://host\tT\tA\ttab\n"
    assert read(texts, tmp_path / "docs.tsv", content) == [
        Text("d1", "Title The body"),
        Text("d2", "No URL"),
        Text("d3", "T A\ttab"),
    ]
    message = refusal(texts, tmp_path / "docs.tsv", f"{DOCUMENT}\nd2\ttext\n")
    assert message == "2: expected MS MARCO's 4 columns (id, URL, title, body), found 2"
    message = refusal(texts, tmp_path / "collection.tsv", f"d1\tone\n{LIKE_A_DOCUMENT}\n")
    assert message.startswith("2: this looks like one of MS MARCO's documents")
    assert "pass --input-format corpus=msmarco-docs, or corpus=tsv" in message


@pytest.mark.parametrize(
    ("chosen", "first", "second"),
    [
        ("tsv", "https://host/page\tTitle\tThe body", "https://host\tis a\tpage"),
        ("msmarco-docs", "Title The body", "is a page"),
    ],
)
def test_the_user_can_say_which_columns_a_file_has(
    tmp_path: Path, chosen: str, first: str, second: str
) -> None:
    path = write(tmp_path / "file", f"{DOCUMENT}\n{LIKE_A_DOCUMENT}\n")
    made = [each for _, each in read_texts(path, InvalidLines(), 100, chosen)]
    assert made == [Text("d1", first), Text("d2", second)]


@pytest.mark.parametrize("text", ["Got 0 of 3 4 apples", "a 0 b 3 4 5 6", "one,two", "[1] a", "7"])
def test_a_document_is_not_taken_for_another_kind_of_line(tmp_path: Path, text: str) -> None:
    assert read_documents(write(tmp_path / "docs", f"{text}\n")) == [text]


def test_a_byte_order_mark_between_joined_files_is_no_part_of_an_id(tmp_path: Path) -> None:
    made = read(texts, tmp_path / "file", "\ufeffd1\tone\n\ufeffd2\ttwo\n")
    assert made == [Text("d1", "one"), Text("d2", "two")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("d1\tone\rd2\ttwo", "a second record after a carriage return"),
        ('{"_id": "d1", "text": "a", "text": "b"}', 'duplicate key "text"'),
        ('{"_id": null, "text": "a"}', "an id must be a string or a whole number, not null"),
        ('{"_id": "a\\u0000", "text": "a"}', "invalid id 'a\\x00'"),
        ('{"_id": ' + "9" * 5000 + ', "text": "a"}', "a number has too many digits"),
        ('{"_id": "d1", "text": ', "invalid JSON"),
        ('{"_id": "d1", "text": "a"} {}', "invalid JSON"),
        ("{'_id': 'd1'}", "invalid JSON"),
        ('{"_id": "d1", "text": NaN}', "NaN"),
        ('{"_id": "d1", "text": ' + "[" * 100_000, "nested too deeply"),
        ('{"_id": "d1"}', "and one of text, "),
        ('{"_id": "d1", "text": 5}', '"text" must be a string, not a number'),
        ('{"_id": "d1", "title": ["a"], "text": "a"}', '"title" must be a string, not a list'),
        ('{"text": "a"}', "the keys are text; use one of _id, "),
        ('{"_id": true, "text": "a"}', "an id must be"),
        ('{"_id": 1.5, "text": "a"}', "an id must be"),
        ('{"_id": "", "text": "a"}', "must not be empty"),
        ('{"_id": "a b", "text": "a"}', "white space"),
        ('{"_id": "a\\u00a0b", "text": "a"}', "white space"),
        ('{"_id": "d1", "text": "half \\ud800"}', "surrogate"),
        ('{"_id": "half \\udc00", "text": "a"}', ""),
        ('["d1", "a"]', "expected JSON"),
        ("one column", "expected JSON"),
        ("a b\ttext", "white space"),
        ("\ttext", "must not be empty"),
        ("d1\t" + "x" * 101, "101 characters; the limit is 100 (RERANKQ_MAX_TEXT_CHARS)"),
    ],
)
def test_a_wrong_text_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(texts, tmp_path / "file", f"d0\tfine\n{line}\n")
    assert message.startswith("2: ")
    assert said in message
