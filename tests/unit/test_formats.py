"""A file is read as it is meant, whatever its dress; a wrong line is named by file and number."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.errors import InvalidInput
from producer import formats, prepare
from producer.formats import BadLines, Judgment, RunLine, Text

Reader = Callable[[str, BadLines], Iterator[tuple[int, Any]]]

RUN = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\n"
QRELS = "q1 0 d1 1\nq1 0 d2 0\n"
TEXTS = '{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}\n'
REQUESTS = "".join(
    f'{{"query_id": "q{n}", "query": "q", "candidates": [{{"id": "d1", "text": "one"}}]}}\n'
    for n in (1, 2)
)


def texts(path: str, bad: BadLines) -> Iterator[tuple[int, Text]]:
    return formats.texts(path, bad, max_chars=100)


def documents(path: str, _: BadLines) -> Iterator[tuple[int, Any]]:
    return enumerate(formats.documents(path), start=1)


READERS: dict[Reader, str] = {
    formats.run: RUN,
    formats.qrels: QRELS,
    texts: TEXTS,
    formats.requests: REQUESTS,
    documents: TEXTS,
}
every_reader = pytest.mark.parametrize(("reader", "content"), READERS.items())
#: All but the documents of one query, which are never skipped.
every_skipper = pytest.mark.parametrize(("reader", "content"), list(READERS.items())[:-1])


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(reader: Reader, path: Path, content: str | bytes) -> list[Any]:
    return [item for _, item in reader(write(path, content), BadLines())]


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
    code = (
        "from producer.formats import run, BadLines\n"
        "print([tuple(line) for _, line in run('-', BadLines())])"
    )
    content = gzip.compress(RUN.encode()) if packed else RUN.encode()
    done = subprocess.run(
        [sys.executable, "-c", code], input=content, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().strip() == "[('q1', 'd1', 1, 2.5), ('q1', 'd2', 2, 1.5)]"


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "run", f"\n\n{RUN}")
    assert [number for number, _ in formats.run(path, BadLines())] == [3, 4]


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
        list(reader(str(tmp_path), BadLines()))
    with pytest.raises(InvalidInput, match=r"missing: No such file"):
        list(reader(str(tmp_path / "missing"), BadLines()))


@every_reader
@pytest.mark.parametrize("skip", [False, True])
def test_a_nul_byte_ends_the_reading_with_its_line(
    tmp_path: Path, reader: Reader, content: str, skip: bool
) -> None:
    path = write(tmp_path / "file", content.encode() + b"PK\0\0")
    with pytest.raises(InvalidInput, match=r"file:3: this is not text"):
        list(reader(path, BadLines(skip=skip)))


@every_reader
@pytest.mark.parametrize("before", [0, 2])
def test_bytes_that_are_not_utf_8_are_named_by_their_line(
    tmp_path: Path, reader: Reader, content: str, before: int
) -> None:
    raw = content.encode() * (before // 2) + b"caf\xe9 Q0 d1 1 1\n" + content.encode()
    assert refusal(reader, tmp_path / "file", raw) == f"{before + 1}: this is not UTF-8 text"


def test_utf_16_is_refused(tmp_path: Path) -> None:
    refusal(texts, tmp_path / "file", TEXTS.encode("utf-16"))


def packed_run() -> bytes:
    return gzip.compress("".join(f"q1 Q0 d{n} {n} {-n} tag\n" for n in range(20_000)).encode())


def test_a_gzip_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    packed = packed_run()
    for length in (2, 9, 12, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        refusal(formats.run, tmp_path / "run", packed[:length])


def test_a_gzip_with_flipped_bits_is_refused(tmp_path: Path) -> None:
    random_ = random.Random(3)
    for _ in range(20):
        packed = bytearray(packed_run())
        for place in random_.sample(range(10, len(packed)), 50):
            packed[place] ^= 0xFF
        refusal(formats.run, tmp_path / "run", bytes(packed))


def test_rubbish_after_a_gzip_is_refused(tmp_path: Path) -> None:
    refusal(formats.run, tmp_path / "run", gzip.compress(RUN.encode()) + b"rubbish")


# Skipping


@every_skipper
def test_a_wrong_line_stops_the_reading_unless_it_is_skipped_and_counted(
    tmp_path: Path, reader: Reader, content: str
) -> None:
    first, second = content.splitlines()
    wrong = "\n".join([first, "{wrong", second, *["[]"] * 6]) + "\n"
    assert refusal(reader, tmp_path / "file", wrong).startswith("2: ")
    bad = BadLines(skip=True)
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
    ("line", "said"),
    [
        ('{"_id": "d1", "text": ', "not JSON"),
        ('{"_id": "d1", "text": "a"} {}', "not JSON"),
        ("{'_id': 'd1'}", "not JSON"),
        ('{"_id": "d1", "text": NaN}', "NaN"),
        ('{"_id": "d1", "text": ' + "[" * 100_000, "nested too deeply"),
        ('{"_id": "d1"}', '"text"'),
        ('{"_id": "d1", "text": 5}', "must be strings"),
        ('{"_id": "d1", "title": ["a"], "text": "a"}', "must be strings"),
        ('{"text": "a"}', '"_id"'),
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
    ],
)
def test_a_run_is_split_at_any_white_space(tmp_path: Path, line: str) -> None:
    assert read(formats.run, tmp_path / "run", f"{line}\n") == [RunLine("q1", "d1", 3, -2.5)]


@pytest.mark.parametrize("score", ["nan", "NaN", "inf", "-Infinity", "1e999", "high", "1,5"])
def test_a_run_with_a_nan_score_is_refused_with_file_and_line(tmp_path: Path, score: str) -> None:
    message = refusal(formats.run, tmp_path / "run", f"{RUN}q2 Q0 d1 1 {score} tag\n")
    assert message.startswith("3: the score ")


@pytest.mark.parametrize("line", ["q1 Q0 d1 1", "q1", "q1 Q0 d1 first 2.5 tag", "q1 Q0 d1 nan 2 t"])
def test_a_run_line_without_its_columns_is_refused(tmp_path: Path, line: str) -> None:
    assert refusal(formats.run, tmp_path / "run", f"{RUN}{line}\n").startswith("3: ")


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
    assert read(formats.qrels, tmp_path / "qrels", content) == [
        Judgment("q1", "d1", 2),
        Judgment("q1", "d2", -1),
    ]


@pytest.mark.parametrize(
    "line", ["q1 1", "q1 0 d1 1 1", "q1 0 d1 yes", "q1 0 d1 nan", "q1\td1\tinf", "q1\td1\t"]
)
def test_a_wrong_judgment_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    assert refusal(formats.qrels, tmp_path / "qrels", f"{QRELS}{line}\n").startswith("3: ")


@pytest.mark.parametrize("line", ["q1 0 d1 nan", "q1\td1\tinf"])
def test_a_wrong_judgment_in_the_first_line_is_no_header(tmp_path: Path, line: str) -> None:
    assert refusal(formats.qrels, tmp_path / "qrels", f"{line}\n{QRELS}").startswith("1: ")


# Request lines


def test_our_request_lines_are_read_whole(tmp_path: Path) -> None:
    candidates = [
        {"id": 7, "text": "one", "score": 1.5, "metadata": {"a": [1]}},
        {"id": "d2", "text": ""},
    ]
    (made,) = read(
        formats.requests, tmp_path / "in", request_line(query_id=3, candidates=candidates)
    )
    assert (made.query_id, made.query) == ("3", "q")
    assert made.candidates == (
        jobs.Candidate(id="7", text="one", score=1.5, metadata={"a": [1]}),
        jobs.Candidate(id="d2", text=""),
    )


def test_a_line_without_a_query_id_gets_its_number(tmp_path: Path) -> None:
    ours = '{"query": "q", "candidates": [{"id": "d1", "text": "one"}]}\n'
    rank_llm = '{"query": {"text": "q"}, "candidates": [{"docid": "d1", "doc": "one"}]}\n'
    made = read(formats.requests, tmp_path / "in", f"{ours}\n{ours}{rank_llm}")
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
    (made,) = read(formats.requests, tmp_path / "in", line)
    assert (made.query_id, made.query) == ("4", "q")
    assert made.candidates == (jobs.Candidate(id="12", text=text, score=3.5),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
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
        (rank_llm_line(), "candidates"),
        (rank_llm_line({"docid": "d1", "doc": {"url": "x"}}), "'d1' has no text"),
        (rank_llm_line({"docid": "d1", "doc": {"text": 5}}), "'d1' has no text"),
        (rank_llm_line({"docid": "d1"}), "text"),
        (rank_llm_line({"doc": "text"}), '"docid"'),
        (rank_llm_line("text"), '"docid"'),
        (rank_llm_line({"docid": "d1", "doc": "a"}, qid="a b"), "white space"),
        (rank_llm_line({"docid": "d1", "doc": "a"}, text=" "), "the query is empty"),
        ('{"query": {"qid": 1, "text": "q"}}', '"candidates" must be a list'),
    ],
)
def test_a_wrong_request_line_is_named_by_its_number(tmp_path: Path, line: str, said: str) -> None:
    message = refusal(formats.requests, tmp_path / "in", f"{REQUESTS}{line.rstrip()}\n")
    assert message.startswith("3: ")
    assert said in message


# Documents of one query


def test_documents_may_be_json_or_one_text_a_line(tmp_path: Path) -> None:
    content = 'a text, with "quotes"\n{"id": 7, "text": "one"}\n{"text": "two"}\n tail \n'
    assert formats.documents(write(tmp_path / "docs", content)) == [
        'a text, with "quotes"',
        {"id": "7", "text": "one"},
        {"text": "two"},
        " tail ",
    ]


def test_a_document_that_is_no_json_is_named_by_its_line(tmp_path: Path) -> None:
    assert refusal(documents, tmp_path / "docs", 'fine\n{"id": 1, "text"\n').startswith("2: ")


@pytest.mark.parametrize("identifier", ["[1]", "true", "1.5", "null", '""'])
def test_an_id_that_is_none_does_not_become_one_on_its_way(tmp_path: Path, identifier: str) -> None:
    path = write(tmp_path / "docs", f'fine\n{{"id": {identifier}, "text": "a"}}\n')
    with pytest.raises(InvalidInput):
        prepare.candidates(formats.documents(path))
