"""A file is read as it is meant, whatever its dress; a wrong line is named by file and number."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.errors import InvalidInput
from producer.client import preparing
from producer.files import reading
from producer.formats.corpus import Text, read_texts
from producer.formats.documents import read_documents
from producer.formats.qrels import Judgment, read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import Pair, read_requests
from producer.formats.trec_run import RunLine, read_run
from tests.command_line import piped_to_standard_input

Reader = Callable[[str, InvalidLines], Iterator[tuple[int, Any]]]

RUN = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\n"
QRELS = "q1 0 d1 1\nq1 0 d2 0\n"
TEXTS = '{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}\n'
REQUESTS = "".join(
    f'{{"query_id": "q{n}", "query": "q", "candidates": [{{"id": "d1", "text": "one"}}]}}\n'
    for n in (1, 2)
)


def texts(path: str, bad: InvalidLines) -> Iterator[tuple[int, Text]]:
    return read_texts(path, bad, max_chars=100)


def documents(path: str, _: InvalidLines) -> Iterator[tuple[int, Any]]:
    return enumerate(read_documents(path), start=1)


READERS: dict[Reader, str] = {
    read_run: RUN,
    read_qrels: QRELS,
    texts: TEXTS,
    read_requests: REQUESTS,
    documents: TEXTS,
}
every_reader = pytest.mark.parametrize(("reader", "content"), READERS.items())
#: All but the documents of one query, which are never skipped.
every_skipper = pytest.mark.parametrize(("reader", "content"), list(READERS.items())[:-1])


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(reader: Reader, path: Path, content: str | bytes) -> list[Any]:
    return [item for _, item in reader(write(path, content), InvalidLines())]


def refusal(reader: Reader, path: Path, content: str | bytes) -> str:
    """What is said about a file, without its name, which must come first."""
    with pytest.raises(InvalidInput) as caught:
        read(reader, path, content)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert "\n" not in message
    return message.removeprefix(f"{path}:")


def request_line(**changes: Any) -> str:
    candidates = [{"id": "d1", "text": "one"}]
    return json.dumps({"query_id": "q1", "query": "q", "candidates": candidates, **changes}) + "\n"


def rank_llm_line(*candidates: Any, **query: Any) -> str:
    return json.dumps({"query": {"qid": "q1", "text": "q", **query}, "candidates": candidates})


# The dress of a file


@every_reader
@pytest.mark.parametrize(
    "dressed",
    [
        lambda plain: gzip.compress(plain),
        lambda plain: b"".join(gzip.compress(line) for line in plain.splitlines(keepends=True)),
        lambda plain: b"\xef\xbb\xbf" + plain,
        lambda plain: gzip.compress(b"\xef\xbb\xbf" + plain),
        lambda plain: plain.replace(b"\n", b"\r\n"),
        lambda plain: b"\n \t\n" + plain.replace(b"\n", b"\n\r\n\n"),
        lambda plain: plain.rstrip(b"\n"),
    ],
    ids=["gzip", "gzip members", "BOM", "gzip with BOM", "CRLF", "blank lines", "no last end"],
)
def test_the_dress_of_a_file_does_not_matter(
    tmp_path: Path, reader: Reader, content: str, dressed: Callable[[bytes], bytes]
) -> None:
    plain = read(reader, tmp_path / "plain", content)
    assert len(plain) == 2
    assert read(reader, tmp_path / "no-suffix", dressed(content.encode())) == plain


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_may_be_gzipped_too(packed: bool) -> None:
    with piped_to_standard_input(gzip.compress(RUN.encode()) if packed else RUN):
        lines = [tuple(line) for _, line in read_run("-", InvalidLines())]
    assert lines == [("q1", "d1", 1, 2.5), ("q1", "d2", 2, 1.5)]


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "run", f"\n\n{RUN}")
    assert [number for number, _ in read_run(path, InvalidLines())] == [3, 4]


# Files that are none of ours


@every_reader
@pytest.mark.parametrize("content_", [b"", b"\n \n\r\n", b"\xef\xbb\xbf", gzip.compress(b"")])
def test_an_empty_file_is_refused(
    tmp_path: Path, reader: Reader, content: str, content_: bytes
) -> None:
    assert refusal(reader, tmp_path / "file", content_) == " the file is empty"


@every_reader
def test_a_directory_and_a_missing_file_are_refused(
    tmp_path: Path, reader: Reader, content: str
) -> None:
    with pytest.raises(InvalidInput, match=r": this is a directory"):
        list(reader(str(tmp_path), InvalidLines()))
    with pytest.raises(InvalidInput, match=r"missing: No such file"):
        list(reader(str(tmp_path / "missing"), InvalidLines()))


@every_reader
@pytest.mark.parametrize("skip", [False, True])
def test_a_nul_byte_ends_the_reading_with_its_line(
    tmp_path: Path, reader: Reader, content: str, skip: bool
) -> None:
    path = write(tmp_path / "file", content.encode() + b"PK\0\0")
    with pytest.raises(InvalidInput, match=r"file:3: this is not text"):
        list(reader(path, InvalidLines(skip=skip)))


@every_reader
@pytest.mark.parametrize("before", [0, 2])
def test_bytes_that_are_not_utf_8_are_named_by_their_line(
    tmp_path: Path, reader: Reader, content: str, before: int
) -> None:
    raw = content.encode() * (before // 2) + b"caf\xe9 Q0 d1 1 1\n" + content.encode()
    message = refusal(reader, tmp_path / "file", raw)
    assert message.startswith(f"{before + 1}: byte 0xe9 in column 4 is not UTF-8; ")
    assert "iconv" in message


def packed_run() -> bytes:
    return gzip.compress("".join(f"q1 Q0 d{n} {n} {-n} tag\n" for n in range(20_000)).encode())


def test_a_gzip_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    packed = packed_run()
    for length in (2, 9, 12, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        refusal(read_run, tmp_path / "run", packed[:length])


def test_a_gzip_with_flipped_bits_is_refused(tmp_path: Path) -> None:
    random_ = random.Random(3)
    for _ in range(20):
        packed = bytearray(packed_run())
        for place in random_.sample(range(10, len(packed)), 50):
            packed[place] ^= 0xFF
        refusal(read_run, tmp_path / "run", bytes(packed))


def test_rubbish_after_a_gzip_is_refused(tmp_path: Path) -> None:
    refusal(read_run, tmp_path / "run", gzip.compress(RUN.encode()) + b"rubbish")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus", TEXTS)
    read_ = texts(path, InvalidLines())
    next(read_)
    with Path(path).open("a") as file:
        file.write('{"_id": "d3", "text": "three"}\n')
    with pytest.raises(InvalidInput, match="corpus: the file changed while it was read"):
        list(read_)


@pytest.mark.parametrize("packed", [False, True])
def test_a_named_pipe_is_read(tmp_path: Path, packed: bool) -> None:
    path, content = tmp_path / "pipe", RUN.encode() * 5_000
    os.mkfifo(path)
    writer = threading.Thread(
        target=path.write_bytes, args=(gzip.compress(content) if packed else content,)
    )
    writer.start()
    assert len(list(read_run(str(path), InvalidLines()))) == 10_000
    writer.join()


def test_a_named_pipe_that_nobody_writes_to_is_not_waited_for_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="pipe: nobody writes to this pipe"):
        list(reading.lines(str(tmp_path / "pipe"), writer_wait_s=0.1))


@pytest.mark.parametrize("archive", ["zip", "tar"])
def test_an_archive_in_a_pipe_is_refused_with_the_way_out(tmp_path: Path, archive: str) -> None:
    write(tmp_path / "run", RUN)
    packed = shutil.make_archive(str(tmp_path / "packed"), archive, tmp_path, "run")
    said = f"-: this is a {archive} archive in a pipe; unpack it first"
    with (
        piped_to_standard_input(Path(packed).read_bytes()),
        pytest.raises(InvalidInput, match=re.escape(said)),
    ):
        list(read_run("-", InvalidLines()))


# Skipping


@every_skipper
def test_a_wrong_line_stops_the_reading_unless_it_is_skipped_and_counted(
    tmp_path: Path, reader: Reader, content: str
) -> None:
    first, second = content.splitlines()
    wrong = "\n".join([first, "{wrong", second, *["[]"] * 6]) + "\n"
    assert refusal(reader, tmp_path / "file", wrong).startswith("2: ")
    bad = InvalidLines(skip=True)
    items = list(reader(str(tmp_path / "file"), bad))
    assert [number for number, _ in items] == [1, 3]
    assert bad.count == 7
    assert len(bad.examples) == 5
    assert bad.examples[0].startswith(f"{tmp_path / 'file'}:2: ")


# Corpus and queries


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


@pytest.mark.parametrize("text", ["Got 0 of 3 4 apples", "a 0 b 3 4 5 6", "one,two", "[1] a", "7"])
def test_a_document_is_not_taken_for_another_kind_of_line(tmp_path: Path, text: str) -> None:
    assert read_documents(write(tmp_path / "docs", f"{text}\n")) == [text]


def test_a_byte_order_mark_between_joined_files_is_no_part_of_an_id(tmp_path: Path) -> None:
    made = read(texts, tmp_path / "file", "\ufeffd1\tone\n\ufeffd2\ttwo\n")
    assert made == [Text("d1", "one"), Text("d2", "two")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("d1\tone\rd2\ttwo", "a second record behind a carriage return"),
        ('{"_id": "d1", "text": "a", "text": "b"}', 'the key "text" stands twice'),
        ('{"_id": null, "text": "a"}', "an id must be a string or a whole number, not null"),
        ('{"_id": "a\\u0000", "text": "a"}', "here 'a\\x00'"),
        ('{"_id": ' + "9" * 5000 + ', "text": "a"}', "a number with thousands of digits"),
        ('{"_id": "d1", "text": ', "not JSON"),
        ('{"_id": "d1", "text": "a"} {}', "not JSON"),
        ("{'_id': 'd1'}", "not JSON"),
        ('{"_id": "d1", "text": NaN}', "NaN"),
        ('{"_id": "d1", "text": ' + "[" * 100_000, "nested too deeply"),
        ('{"_id": "d1"}', "a text in text, "),
        ('{"_id": "d1", "text": 5}', '"text" must be a string, not a number'),
        ('{"_id": "d1", "title": ["a"], "text": "a"}', '"title" must be a string, not a list'),
        ('{"text": "a"}', "its keys are text; an id is looked for in _id, "),
        ('{"_id": true, "text": "a"}', "an id must be"),
        ('{"_id": 1.5, "text": "a"}', "an id must be"),
        ('{"_id": "", "text": "a"}', "must not be empty"),
        ('{"_id": "a b", "text": "a"}', "white space"),
        ('{"_id": "a\\u00a0b", "text": "a"}', "white space"),
        ('{"_id": "d1", "text": "half \\ud800"}', "surrogate"),
        ('{"_id": "half \\udc00", "text": "a"}', ""),
        ('["d1", "a"]', "neither JSON"),
        ("one column", "neither JSON"),
        ("a b\ttext", "white space"),
        ("\ttext", "must not be empty"),
        ("d1\t" + "x" * 101, "101 characters, the limit is 100 (RERANKQ_MAX_TEXT_CHARS)"),
    ],
)
def test_a_wrong_text_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(texts, tmp_path / "file", f"d0\tfine\n{line}\n")
    assert message.startswith("2: ")
    assert said in message


# Runs


@pytest.mark.parametrize(
    "line",
    [
        "q1 Q0 d1 3 -2.5 tag",
        "q1\tQ0\td1\t3\t-2.5\ttag",
        "  q1   Q0\t\td1 \t 3  -25e-1\t tag  ",
        "q1 Q0 d1 3 -2.5",
        "q1 0 d1 3.0 -2.5 a tag of words",
        "q1 0 d1 3 -2.5 2024 0.9 tag 0",
        "q1\tQ0\td1\t3\t-2.5\ta tag\tof words",
        "q1\tQ0\td1\t3\t-2.5\t",
        "q1\tQ0\td1\t3\t-2.5",
    ],
)
def test_a_run_is_split_at_spaces_and_tabs(tmp_path: Path, line: str) -> None:
    assert read(read_run, tmp_path / "run", f"{line}\n") == [RunLine("q1", "d1", 3, -2.5)]


@pytest.mark.parametrize("score", ["nan", "NaN", "inf", "-Infinity", "1e999", "high", "1,5"])
def test_a_run_with_a_nan_score_is_refused_with_file_and_line(tmp_path: Path, score: str) -> None:
    message = refusal(read_run, tmp_path / "run", f"{RUN}q2 Q0 d1 1 {score} tag\n")
    assert message.startswith("3: the score ")


@pytest.mark.parametrize("number", [3, 3.5, -3])
def test_a_tag_may_be_a_number_where_no_id_can_hold_white_space(
    tmp_path: Path, number: float
) -> None:
    line = f"q1\tQ0\td1\t3\t-2\t{number} tag\n"
    assert read(read_run, tmp_path / "run", line) == [RunLine("q1", "d1", 3, -2)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        # Two records that lost the line break between them
        ("q1 Q0 d1 1 2.5 tagq1 Q0 d2 2 1.5 tag", "a second record in the line, from 'tagq1' on"),
        ("q1 Q0 d1 1 2.5 my tagq1 Q0 d2 2 1.5 my tag", "from 'tagq1' on"),
        ("q1 Q0 d1 1 2.5 tag q1 Q0 d2 2 1.5", "a second record"),
        ("q1 0 d1 1 2.5 tagq1 0 d2 2 1.5 tag", "a second record"),
        ("q1\tQ0\td1\t1\t2.5\ttagq1\tQ0\td2\t2\t1.5\ttag", "a second record"),
        ("q1 Q0 d1 1 2.5 tag\rq1 Q0 d2 2 1.5 tag", "a second record"),
        ("q1 Q0 d1 1 2.5 tagq1 Q0", "a second record"),
        ("q1 Q0 d1 1 2.5q1 Q0 d2 2 1.5", "the score '2.5q1' is not a number"),
        # White space in an id
        ("q1\tQ0\td 1\t1\t2.5\ttag", "here 'd 1'"),
        ("q 1\tQ0\td1\t1\t2.5\ttag", "here 'q 1'"),
        ("q1\tQ0\td 1\t1\t2.5", "here 'd 1'"),
        ("q1\tQ0\t\t1\t2.5\ttag", "must not be empty"),
        ("q1\tQ0\td 1\t1\t2.5\ta\ttag", "here 'd 1'"),
        ("q1 Q0 d 1 1 2.5 tag", "does an id hold white space?"),
        ("q1 Q0 d 1 1 2.5", "does an id hold white space?"),
        ("q 1 Q0 7 1 2.5 tag", "does an id hold white space?"),
        (
            "q1 Q0 New York 1 2.5 tag",
            "the rank 'York' is not a number; does an id hold white space?",
        ),
        ("q1 Q0 d\u00a01 1 2.5 tag", "here 'd\\xa01'"),
        ("q1 Q0 d\x0b1 1 2.5 tag", "here 'd\\x0b1'"),
        ("q1 Q0 d\u20281 1 2.5 tag", "here 'd\\u20281'"),
    ],
)
def test_a_run_line_is_not_read_as_other_columns(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(read_run, tmp_path / "run", f"{RUN}{line}\n")
    assert message.startswith("3: ")
    assert said in message


def test_a_header_of_a_run_is_no_line_of_it(tmp_path: Path) -> None:
    content = f"qid\tQ0\tdocno\trank\tscore\ttag\n{RUN}"
    assert len(read(read_run, tmp_path / "run", content)) == 2


@pytest.mark.parametrize("line", ["q1 Q0 d1 1", "q1", "q1 Q0 d1 first 2.5 tag", "q1 Q0 d1 nan 2 t"])
def test_a_run_line_without_its_columns_is_refused(tmp_path: Path, line: str) -> None:
    assert refusal(read_run, tmp_path / "run", f"{RUN}{line}\n").startswith("3: ")


# Judgments


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-1\n",
        "q1\td1\t2\nq1\td2\t-1\n",
        "q1 0 d1 2\nq1 0 d2 -1\n",
        "q1\t0\td1\t2\nq1\tQ0\td2\t-1\n",
        "q1 0\td1\t2\nq1\t0 d2\t-1\n",
        "  q1  0 \t d1   2 \nq1 0 d2 -1\t\n",
        "q1\td1\t2\t\nq1\td2\t-1\t\n",
        "q1 d1 2.0\nq1 d2 -1\n",
    ],
)
def test_qrels_may_be_beirs_or_trecs(tmp_path: Path, content: str) -> None:
    assert read(read_qrels, tmp_path / "qrels", content) == [
        Judgment("q1", "d1", 2),
        Judgment("q1", "d2", -1),
    ]


@pytest.mark.parametrize(
    "line", ["q1 1", "q1 0 d1 1 1", "q1 0 d1 yes", "q1 0 d1 nan", "q1\td1\tinf", "q1\td1\t"]
)
def test_a_wrong_judgment_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    assert refusal(read_qrels, tmp_path / "qrels", f"{QRELS}{line}\n").startswith("3: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q 1\td1\t1", "here 'q 1'"),
        ("q1\td 1\t1", "here 'd 1'"),
        ("q1\t0\td 1\t1", "here 'd 1'"),
        ("q1\t0\t\t1", "must not be empty"),
        ("\t0\td1\t1", "must not be empty"),
        ("q1 0 d1 1q2 0 d2 1", "here 7"),
        ("q1\td1\t1q2\td2\t1", "here 5"),
        ("q1 d\u00a01 1", "here 'd\\xa01'"),
    ],
)
def test_a_judgment_is_not_read_as_other_columns(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(read_qrels, tmp_path / "qrels", f"{QRELS}{line}\n")
    assert message.startswith("3: ")
    assert said in message


def test_columns_that_are_empty_between_tabs_count(tmp_path: Path) -> None:
    line = "q1\t\td1\t2\n"
    assert read(read_qrels, tmp_path / "qrels", line) == [Judgment("q1", "d1", 2)]


@pytest.mark.parametrize("line", ["q1 0 d1 nan", "q1\td1\tinf", "q1 0 d1 yes", "q1\td1\thigh"])
def test_a_wrong_judgment_in_the_first_line_is_no_header(tmp_path: Path, line: str) -> None:
    assert refusal(read_qrels, tmp_path / "qrels", f"{line}\n{QRELS}").startswith("1: ")


# Request lines


def test_our_request_lines_are_read_whole(tmp_path: Path) -> None:
    candidates = [
        {"id": 7, "text": "one", "score": 1.5, "metadata": {"a": [1]}},
        {"id": "d2", "text": ""},
    ]
    (made,) = read(read_requests, tmp_path / "in", request_line(query_id=3, candidates=candidates))
    assert (made.query_id, made.query) == ("3", "q")
    assert made.candidates == (
        jobs.Candidate(id="7", text="one", score=1.5, metadata={"a": [1]}),
        jobs.Candidate(id="d2", text=""),
    )


@pytest.mark.parametrize(
    "line",
    [
        '{"model": "m", "query": "q", "documents": ["one", "two"], "return_documents": true}',
        '{"query": "q", "documents": [{"text": "one"}, {"text": "two"}]}',
        '{"query": "q", "documents": [{"id": 0, "text": "one"}, {"id": "1", "text": "two"}]}',
        '{"query": "q", "texts": ["one", "two"], "raw_scores": true, "truncate": true}',
        '{"query": {"text": "q"}, "passages": [{"text": "one"}, {"text": "two"}]}',
    ],
)
def test_requests_of_other_rerankers_are_read_and_places_are_ids(tmp_path: Path, line: str) -> None:
    (made,) = read(read_requests, tmp_path / "in", f"{line}\n")
    assert (made.query_id, made.query) == ("1", "q")
    assert [(each.id, each.text) for each in made.candidates] == [("0", "one"), ("1", "two")]


@pytest.mark.parametrize(
    "candidate",
    [
        '{"docid": "d1", "contents": "one", "score": 2}',
        '{"docid": "d1", "doc": {"segment": "one"}, "score": 2}',
        '{"_id": "d1", "title": "", "text": "one", "score": 2}',
    ],
)
def test_candidates_may_have_the_keys_of_corpora(tmp_path: Path, candidate: str) -> None:
    line = f'{{"query": "q", "candidates": [{candidate}]}}\n'
    (made,) = read(read_requests, tmp_path / "in", line)
    assert made.candidates == (jobs.Candidate(id="d1", text="one", score=2),)


def test_ms_marcos_top1000_is_read(tmp_path: Path) -> None:
    content = "12\t7\tquery\tpassage one\n12\t8\tquery\tpassage two\n"
    assert read(read_requests, tmp_path / "in", content) == [
        Pair("12", "query", "7", "passage one"),
        Pair("12", "query", "8", "passage two"),
    ]


def test_nan_is_refused_where_it_is_ranked_and_null_elsewhere(tmp_path: Path) -> None:
    nan = float("nan")
    metadata = {"year": nan, "list": [1, {"x": float("inf")}]}
    line = request_line(candidates=[{"id": "d1", "text": "one", "metadata": metadata}])
    (made,) = read(read_requests, tmp_path / "in", line)
    assert made.candidates[0].metadata == {"year": None, "list": [1, {"x": None}]}
    ranked = request_line(candidates=[{"id": "d1", "text": "one", "score": nan}])
    assert "candidates[0].score: must be a finite number" in refusal(
        read_requests, tmp_path / "in", ranked
    )


def test_a_line_without_a_query_id_gets_its_number(tmp_path: Path) -> None:
    ours = '{"query": "q", "candidates": [{"id": "d1", "text": "one"}]}\n'
    rank_llm = '{"query": {"text": "q"}, "candidates": [{"docid": "d1", "doc": "one"}]}\n'
    made = read(read_requests, tmp_path / "in", f"{ours}\n{ours}{rank_llm}")
    assert [each.query_id for each in made] == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        *(({name: "inner"}, "inner") for name in ("text", "segment", "contents", "content")),
        *(({name: "inner"}, "inner") for name in ("body", "passage")),
        ({"title": "Title", "text": "inner"}, "Title inner"),
        ({"title": "", "segment": "inner", "url": "x"}, "inner"),
        ({"passage": "last", "text": "first"}, "first"),
        ({"text": None, "contents": "inner"}, "inner"),
    ],
)
def test_a_document_of_rank_llm_may_have_any_of_its_shapes(
    tmp_path: Path, doc: Any, text: str
) -> None:
    line = rank_llm_line({"docid": 12, "score": 3.5, "doc": doc}, qid=4)
    (made,) = read(read_requests, tmp_path / "in", line)
    assert (made.query_id, made.query) == ("4", "q")
    assert made.candidates == (jobs.Candidate(id="12", text=text, score=3.5),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "not JSON"),
        ("query\tone\ttwo", "nor the four columns of MS MARCO's top1000"),
        ('{"text_1": "q", "text_2": ["a"]}', "its keys are text_1, text_2"),
        ('{"question": "q", "ctxs": []}', "its keys are question, ctxs"),
        ("[1]", "not a JSON object"),
        ('"text"', "not JSON"),
        (request_line(candidates=[]), "candidates"),
        (request_line(candidates=None), "candidates"),
        (request_line(candidates={"id": "d1"}), "candidates"),
        ('{"query": "q"}', "candidates"),
        (request_line(candidates=["text"]), "candidates[0]"),
        (request_line(candidates=[{"text": "no id"}]), "candidates[0].id"),
        (request_line(candidates=[{"id": "d1"}]), "candidates[0].text"),
        (request_line(candidates=[{"id": "d1", "text": "a"}] * 2), "'d1' stands twice"),
        (request_line(candidates=[{"id": n, "text": "a"} for n in (1, "1")]), "'1' stands twice"),
        (request_line(candidates=[{"id": "a b", "text": "a"}]), "white space"),
        (request_line(candidates=[{"id": "d1", "text": "\ud800"}]), "surrogate"),
        (request_line(candidates=[{"id": "d1", "text": "a", "x": 1}]), "x: unknown field"),
        (request_line(candidates=[{"id": "d1", "text": "a", "score": "high"}]), "score"),
        (request_line(candidates=[{"id": "d1", "text": "a", "score": float("nan")}]), "NaN"),
        ('{"query": "q", "candidates": [{"id": "d", "text": "", "score": 1e999}]}', "finite"),
        (request_line(query=""), "query: the query is empty"),
        (request_line(query=5), "query"),
        (request_line(query="\udfff"), "surrogate"),
        (request_line(query_id="a b"), "white space"),
        (request_line(query_id=""), "must not be empty"),
        (request_line(qid="1"), "qid: unknown field"),
        ('{"query": "q", "query": "r", "candidates": []}', 'the key "query" stands twice'),
        (
            '{"query": "q", "candidates": [{"id": "1", "text": "a", "text": "b"}]}',
            'the key "text" stands twice',
        ),
        ('{"query": "q", "documents": "one"}', '"documents" must be a list, not a string'),
        ('{"query": "q", "documents": [5]}', "documents[0]: must be a string or an object"),
        ('{"query": "q", "documents": [{"name": "a"}]}', "documents[0] has no text: its keys are"),
        ('{"query": "q", "texts": []}', "candidates: is empty"),
        ('{"query": "q", "documents": ["a"], "top_n": 1}', "use --top-k"),
        ('{"query": "q", "documents": ["a"], "rank_fields": ["x"]}', "rank_fields: unknown field"),
        (rank_llm_line(), "candidates"),
        (rank_llm_line({"docid": "d1", "doc": {"url": "x"}}), "'d1' has no text"),
        (rank_llm_line({"docid": "d1", "doc": {"text": 5}}), "'d1' has no text"),
        (rank_llm_line({"docid": "d1"}), "text"),
        (rank_llm_line({"doc": "text"}), '"docid"'),
        (rank_llm_line("text"), '"docid"'),
        (rank_llm_line({"docid": "d1", "doc": "a"}, qid="a b"), "white space"),
        (rank_llm_line({"docid": "d1", "doc": "a"}, text=" "), "the query is empty"),
        ('{"query": {"qid": 1, "text": "q"}}', 'a request needs "query" and "candidates"'),
    ],
)
def test_a_wrong_request_line_is_named_by_its_number(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(read_requests, tmp_path / "in", f"{REQUESTS}{line.rstrip()}\n")
    assert message.startswith("3: ")
    assert said in message


# Documents of one query


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
        ('{"id": "d1"}', "text: is missing"),
        ('{"id": "d1", "text": "a", "tags": 1}', "tags: unknown field"),
        ('{"id": "fine", "text": "a"}', "document id 'fine' stands twice"),
        ("one\rtwo", "a carriage return inside a text"),
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
