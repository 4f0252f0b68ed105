"""A wrong input file is reported in one line, with its line and the fix; nothing is written."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from contract.models import BUNDLED
from tests.command_line import Completed, rerankq

CORPUS = '{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}\n'
QUERIES = '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "second"}\n'
RUN = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\nq2 Q0 d1 1 1.0 tag\n"
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\n"
REQUEST = '{"query_id": "q1", "query": "first", "candidates": [{"id": "d1", "text": "one"}]}\n'
GOOD = {"corpus": CORPUS, "queries": QUERIES, "run": RUN, "qrels": QRELS}
NOWHERE = {"RERANKQ_REDIS_URL": "redis://127.0.0.1:1/0"}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rescore(folder: Path, name: str, content: str | bytes, *options: str) -> Completed:
    """Run the command with good files, except for the file `name`."""
    for each, text in GOOD.items():
        write(folder / each, text)
    write(folder / name, content)
    named = ["input"] if name == "input" else ["corpus", "queries", "run"]
    if name == "qrels":
        named.append(name)
    files = [part for each in named for part in (f"--{each}", str(folder / each))]
    output = ("--output", str(folder / "out.trec"))
    return rerankq("rescore", *files, *output, *options, environment=NOWHERE)


def refusal(done: Completed, folder: Path) -> str:
    """Return the one line on standard error, without the folder's name."""
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("out*"))
    return done.stderr.removeprefix("Error: ").replace(f"{folder}/", "").rstrip("\n")


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return packed.getvalue()


MANY = "".join(f'{{"_id": "d{n}", "text": "text {n} {n * n}"}}\n' for n in range(5_000)).encode()

#: The name of the option, the file, how the line begins, and words of the fix.
BAD_FILES: dict[str, tuple[str, str | bytes, str, str]] = {
    # Files that are something else
    "lz4": ("corpus", b"\x04\x22\x4d\x18\x64", "corpus: this is an lz4 file", "lz4 -d"),
    "7z": ("corpus", b"7z\xbc\xaf\x27\x1c\0", "corpus: this is a 7-Zip archive", "7z x"),
    "parquet": ("corpus", b"PAR1\x15\x04\0", "corpus: this is a Parquet file", "JSONL"),
    "avro": ("corpus", b"Obj\x01\x04\x16", "corpus: this is an Avro file", "JSONL"),
    "arrow": ("corpus", b"ARROW1\0\0", "corpus: this is an Arrow file", "JSONL"),
    "sqlite": ("queries", b"SQLite format 3\0\x10", "queries: this is an SQLite", "JSONL"),
    "pickle": ("run", b"\x80\x04\x95\x0e", "run: this is a Python pickle", "JSONL"),
    "numpy": ("run", b"\x93NUMPY\x01\0", "run: this is a NumPy array", "JSONL"),
    "pdf": ("corpus", b"%PDF-1.7\n%\xe2\n", "corpus: this is a PDF", "extract its text"),
    "excel": (
        "corpus",
        zipped(**{"[Content_Types].xml": "x", "xl/workbook.xml": "x"}),
        "corpus: this is an Excel",
        "tab-separated",
    ),
    "old excel": (
        "corpus",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "corpus: this is an old Excel",
        "JSONL",
    ),
    "login page": ("corpus", "\n<!DOCTYPE html>\n<html>", "corpus: this is an HTML page", "login"),
    "XML": ("queries", '<?xml version="1.0"?>\n<top/>', "queries: this is an XML file", "JSONL"),
    "TREC topics": ("queries", "<top>\n<num> 1\n", "queries: this is a TREC topics", "JSONL"),
    "LFS pointer": (
        "corpus",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "corpus: this is a Git LFS pointer",
        "git lfs pull",
    ),
    "zip of two": (
        "corpus",
        zipped(a=CORPUS, b=CORPUS),
        "corpus: this is a zip archive of 2 files: a, b",
        "pass one file",
    ),
    "tar of two": (
        "corpus",
        gzip.compress(tarred(a=CORPUS, b=CORPUS)),
        "corpus: this is a tar archive of 2 files: a, b",
        "pass one file",
    ),
    "UTF-16 without mark": (
        "corpus",
        CORPUS.encode("utf-16-le"),
        "corpus: this is UTF-16LE",
        "iconv -f UTF-16LE",
    ),
    "binary": ("corpus", "fine\ttext\n\0\1\2", "corpus:2: this is not text", "a text file"),
    "old Mac": ("run", RUN.replace("\n", "\r"), "run: lines end with carriage", "tr '\\r'"),
    "Latin-1": (
        "corpus",
        "d1\tone\nd2\tcaf\u00e9\n".encode("latin-1"),
        "corpus:2: byte 0xe9 in column 7 is not valid UTF-8",
        "iconv -f WINDOWS-1252",
    ),
    # Damaged files
    "empty": ("corpus", b"", "corpus: the file is empty", ""),
    "cut gzip": (
        "corpus",
        gzip.compress(MANY)[:-3000],
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "cut bzip2": (
        "corpus",
        bz2.compress(MANY)[:-3000],
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "cut xz": (
        "corpus",
        lzma.compress(MANY)[:-3000],
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "cut zip": (
        "corpus",
        zipped(a=CORPUS)[:-40],
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "cut zstd": (
        "corpus",
        zstandard.compress(MANY)[:-3000],
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "rubbish behind zstd": (
        "corpus",
        zstandard.compress(CORPUS.encode()) + b"rubbish",
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "rubbish behind gzip": (
        "corpus",
        gzip.compress(CORPUS.encode()) + b"rubbish",
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "rubbish behind bzip2": (
        "corpus",
        bz2.compress(CORPUS.encode()) + b"rubbish",
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    "rubbish behind xz": (
        "corpus",
        lzma.compress(CORPUS.encode()) + b"rubbish",
        "corpus: the file cannot be read",
        "check that it is complete",
    ),
    # JSON without one record per line
    "array": (
        "input",
        json.dumps([[json.loads(REQUEST)]]),
        "input:1: expected a JSON object",
        "jq -c '",
    ),
    "array over lines": ("corpus", "[\n" + CORPUS, "corpus:1: ", "jq -c '.[]'"),
    "object over lines": (
        "input",
        json.dumps(json.loads(REQUEST), indent=2),
        "input:1: invalid JSON",
        "jq -c .",
    ),
    "cut line": (
        "corpus",
        CORPUS + '{"_id": "d3", "te',
        "corpus:3: invalid JSON",
        "ends too early",
    ),
    "two in a line": (
        "corpus",
        CORPUS.replace("}\n", "}"),
        "corpus:1: invalid JSON",
        "one record per line",
    ),
    "key twice": (
        "corpus",
        '{"_id": "d1", "_id": "d2", "text": "one"}\n',
        'corpus:1: duplicate key "_id"',
        "",
    ),
    "other keys": (
        "corpus",
        '{"name": "d1", "abstract": "one"}\n',
        "corpus:1: an id and a text are required, but the keys are name, abstract; use",
        "_id, id, doc_id",
    ),
    "nested text": (
        "corpus",
        '{"_id": "d1", "text": {"a": 1}}\n',
        'corpus:1: "text" must',
        "an ob",
    ),
    "float id": ("corpus", '{"_id": 1.0, "text": "one"}\n', "corpus:1: an id must be", "not 1.0"),
    "space in id": (
        "corpus",
        '{"_id": "d 1", "text": "a"}\n',
        "corpus:1: invalid id 'd 1': ids must not",
        "TREC",
    ),
    # Runs
    "joined lines": (
        "run",
        RUN.replace("tag\nq1", "tagq1"),
        "run:1: the line contains a second record, starting at 'tagq1'",
        "missing line break",
    ),
    "joined with tabs": (
        "run",
        RUN.replace(" ", "\t").replace("tag\nq1", "tagq1"),
        "run:1: the line contains a second record",
        "missing line break",
    ),
    "id with a space": (
        "run",
        "q1\tQ0\td 1\t1\t2.5\ttag\n",
        "run:1: invalid id 'd 1': ids must not be empty or contain white space",
        "TREC",
    ),
    "id with a space among spaces": (
        "run",
        "q1 Q0 d 1 1 2.5 tag\n",
        "run:1: columns 4 to 6 are all numbers (1 1 2.5)",
        "white space",
    ),
    "id with no-break space": (
        "run",
        "q1 Q0 d\u00a01 1 2.5 tag\n",
        "run:1: invalid id 'd\\xa01': ids must not be empty or contain white space",
        "TREC",
    ),
    "NaN": ("run", RUN + "q2 Q0 d2 2 nan t\n", "run:4: the score is nan", "finite number"),
    "zero-width id": (
        "run",
        RUN.replace("d2", "d2\u200b"),
        "run: 1 document not in corpus: d2\\u200b; that file has 'd2'",
        "instead of 'd2\\u200b'",
    ),
    "mark in the corpus's id": (
        "corpus",
        '{"_id": "\ufeffd1", "text": "a"}\nd2\ttwo\n',
        "run: 1 document not in corpus: d1; that file has '\\ufeffd1'",
        "instead of 'd1'",
    ),
    "pair twice": (
        "run",
        RUN + "q1 Q0 d1 3 1 t\n",
        "run:4: duplicate document 'd1' for query 'q1'",
        "--skip-invalid",
    ),
    # The wrong file
    "qrels as run": (
        "run",
        "q1 0 d1 1\n",
        "run:1: expected a TREC run with 6 columns",
        "pass them with --qrels",
    ),
    "qrels of three columns as run": ("run", "1\t7\t1\n1\t8\t1\n", "run:2: query", "--qrels"),
    "corpus as run": ("run", CORPUS, "run:1: ", "pass them with --corpus or --queries"),
    "run as qrels": ("qrels", RUN, "qrels:1: expected qrels with 3 columns", "pass it with --run"),
    "run as queries": ("queries", RUN.replace(" ", "\t"), "queries:1: ", "pass it with --run"),
    "qrels as queries": ("queries", "q1\td1\t1\n", "queries:1: ", "pass them with --qrels"),
    "qrels with header as queries": ("queries", QRELS, "queries:1: ", "pass them with --qrels"),
    "corpus as queries": (
        "queries",
        CORPUS,
        "run: 2 queries not in queries: q1, q2",
        "are --queries and --corpus swapped?",
    ),
    "requests as corpus": ("corpus", REQUEST, "run: 2 documents not in corpus: d1, d2", ""),
    "corpus as input": ("input", CORPUS, "input:1: ", "pass them with --corpus or --queries"),
    "results as input": (
        "input",
        '{"query_id": "q1", "documents": [], "provenance": {}}\n',
        "input:1: ",
        "--results",
    ),
    "top1000 as corpus": (
        "corpus",
        "12\t7\tquery\tpassage\n",
        "corpus:1: ",
        "pass it with --input",
    ),
    "JSON as run": (
        "run",
        '{"q1": {"d1": 0.5}}\n',
        "run:1: expected a TREC run",
        "looks like JSON",
    ),
    "comma between lines": (
        "corpus",
        CORPUS.replace("\n", ",\n"),
        "corpus:1: invalid JSON",
        "remove the commas between lines",
    ),
    "ids of another collection": (
        "corpus",
        "1\tone\n2\ttwo\n",
        "run: 2 documents not in corpus: d1, d2",
        "that file has ids such as '1', '2'",
    ),
    "quotes in ids": (
        "corpus",
        '"d1"\tone\nd2\ttwo\n',
        "run: 1 document not",
        """that file has '"d1"'""",
    ),
    "commas": ("corpus", "id,text\nd1,one\n", "corpus:1: expected JSON", "comma-separated"),
    "qrels of another run": (
        "qrels",
        "x1\td1\t1\n",
        "qrels: none of its queries is in the run: it has queries such as 'x1', and the run has",
        "",
    ),
    "header with unknown columns": (
        "corpus",
        "id\tabstract\turl\nd1\tone\tx\n",
        "corpus:2: the header has no text column: its columns are id, abstract, url",
        "text, segment",
    ),
    # Requests
    "no candidates": (
        "input",
        '{"query": "q", "candidates": []}\n',
        "input:1: candidates: must not be empty; a request needs at least one candidate",
        "",
    ),
    "text is null": (
        "input",
        '{"query": "q", "candidates": [{"id": "d1", "text": null}]}\n',
        "input:1: candidates[0].text: must be a string, not null",
        "",
    ),
    "id with NUL": (
        "input",
        REQUEST.replace('"d1"', '"d\\u00001"'),
        "input:1: invalid id 'd\\x001': ids must not be empty or contain white space or NUL",
        "TREC",
    ),
    "id as number and string": (
        "input",
        REQUEST
        + REQUEST.replace('"q1"', '"q2"').replace(
            '[{"id": "d1"', '[{"id": 1, "text": "x"}, {"id": "1"'
        ),
        "input:2: duplicate candidate id '1'",
        "",
    ),
    "top_n": (
        "input",
        '{"query": "q", "documents": ["one"], "top_n": 3}\n',
        'input:1: "top_n" cannot be set per query',
        "use --top-k",
    ),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_bad_file_is_one_line_with_the_place_and_the_fix(tmp_path: Path, bad: str) -> None:
    name, content, start, fix = BAD_FILES[bad]
    said = refusal(rescore(tmp_path, name, content), tmp_path)
    assert said.startswith(start)
    assert fix in said


@pytest.mark.parametrize("model", [f"{BUNDLED}@int8", "unknown/model"])
def test_a_model_that_is_not_allowed_is_refused_before_any_file_is_written(
    tmp_path: Path, model: str
) -> None:
    said = refusal(rescore(tmp_path, "corpus", CORPUS, "--model", model), tmp_path)
    assert said.startswith(f"model '{model}' is not allowed")


def test_a_directory_a_missing_and_a_closed_file_are_named(tmp_path: Path) -> None:
    for each, text in GOOD.items():
        write(tmp_path / each, text)
    write(tmp_path / "packed.gz", gzip.compress(CORPUS.encode()))
    (tmp_path / "folder").mkdir()
    for name, said in {
        "folder": "folder: this is a directory; pass a file",
        "missing": "missing: No such file or directory; check the path",
        "packed": "packed: No such file or directory; did you mean {folder}/packed.gz?",
        "two\nlines": "two\\nlines: No such file or directory; check the path",
        os.fsdecode(b"\xff"): "\\udcff: No such file or directory; check the path",
    }.items():
        done = rerankq(
            *("rescore", "--run", str(tmp_path / "run"), "--corpus", str(tmp_path / name)),
            *("--queries", str(tmp_path / "queries"), "--output", str(tmp_path / "out")),
            environment=NOWHERE,
        )
        assert refusal(done, tmp_path) == said.replace("{folder}/", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "docs: the file is empty"),
        (b"\x04\x22\x4d\x18", "docs: this is an lz4 file; decompress it with `lz4 -d`"),
        (b"one\ncaf\xe9\n", "docs:2: byte 0xe9 in column 4 is not valid UTF-8"),
        (RUN, "docs:1: this looks like a TREC run; pass it with --run"),
        (
            '[{"id": "d1", "text": "a"}]',
            "docs:1: this looks like a single JSON array; write one record",
        ),
        ('[\n{"id": "d1", "text": "a"}\n]', "docs:1: this looks like a single JSON array"),
        (REQUEST, "docs:1: this looks like queries with their documents; pass them with --input"),
        (
            '{"id": "d1", "text": "a"}\n{"id": "d1", "text": "b"}\n',
            "docs:2: duplicate document id 'd1'",
        ),
        ('{"id": "d1", "text": "a"}\n{"id": "d2"}\n', "docs:2: text: is required"),
        ('{\n  "id": "d1",\n  "text": "a"\n}\n', "docs:1: invalid JSON"),
    ],
)
def test_bad_documents_to_submit_are_one_line(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    docs = write(tmp_path / "docs", content)
    command = ["submit", "--query", "q", "--documents", str(docs)]
    done = rerankq(*command, environment=NOWHERE)
    assert refusal(done, tmp_path).startswith(said)


def test_compare_names_a_bad_file_in_the_same_way(tmp_path: Path) -> None:
    for each, text in GOOD.items():
        write(tmp_path / each, text)
    write(tmp_path / "run", RUN.replace("tag\nq1", "tagq1"))
    files = [part for each in GOOD for part in (f"--{each}", str(tmp_path / each))]
    command = ["compare", *files, "--model", "a", "--model", "b"]
    done = rerankq(*command, environment=NOWHERE | {"RERANKQ_ALLOWED_MODELS": "a,b"})
    assert refusal(done, tmp_path).startswith(
        "run:1: the line contains a second record, starting at 'tagq1'"
    )


LINES = [name for name, (_, _, start, _) in BAD_FILES.items() if start.split(":")[1].isdigit()]


@pytest.mark.parametrize("bad", LINES)
def test_a_bad_line_is_skipped_and_counted(tmp_path: Path, bad: str) -> None:
    """Or refuse the whole file, if its first line belongs to another kind of file."""
    name, content, _, _ = BAD_FILES[bad]
    done = rescore(tmp_path, name, content, "--skip-invalid", "--dry-run")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)
    assert not list(tmp_path.glob("out*"))
    if done.returncode == 0:
        assert "skipped " in done.stderr


#: Files that are read as if they were plain files.
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip in gzip": lambda plain: gzip.compress(gzip.compress(plain)),
    "bzip2": bz2.compress,
    "bzip2 of several": lambda plain: bz2.compress(plain[:20]) + bz2.compress(plain[20:]),
    "xz": lzma.compress,
    "xz of several, padded": lambda plain: (
        lzma.compress(plain[:20]) + bytes(8) + lzma.compress(plain[20:]) + bytes(4)
    ),
    "lzma": lambda plain: lzma.compress(plain, lzma.FORMAT_ALONE),
    "zstd of several": lambda plain: (
        zstandard.compress(plain[:20]) + zstandard.compress(plain[20:])
    ),
    "zip": lambda plain: zipped(**{"f/": "", "f/corpus": plain.decode(), "__MACOSX/x": ""}),
    "tar": lambda plain: tarred(corpus=plain.decode()),
    "tar in gzip": lambda plain: gzip.compress(tarred(corpus=plain.decode())),
    "UTF-16": lambda plain: plain.decode().encode("utf-16"),
    "UTF-16BE": lambda plain: ("\ufeff" + plain.decode()).encode("utf-16-be"),
    "UTF-32": lambda plain: plain.decode().encode("utf-32"),
    "UTF-16 in gzip": lambda plain: gzip.compress(plain.decode().encode("utf-16")),
    "UTF-8 with marks": lambda plain: b"\xef\xbb\xbf" + plain.replace(b"\n", b"\n\xef\xbb\xbf", 1),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", ["corpus", "run", "queries", "qrels"])
def test_a_file_in_each_compression_and_encoding_is_read(
    tmp_path: Path, packed: str, name: str
) -> None:
    done = rescore(tmp_path, name, PACKED[packed](GOOD[name].encode()), "--dry-run")
    assert (done.returncode, done.stderr) == (0, "2 queries, 3 pairs, 2 documents\n")


def test_records_end_in_line_feeds_only(tmp_path: Path) -> None:
    odd = "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg\rh"
    visible = odd.translate(dict.fromkeys(range(32)))
    corpus = f"d1\t{odd}\r\n" + json.dumps({"_id": "d2", "text": visible}, ensure_ascii=False)
    done = rescore(tmp_path, "corpus", corpus, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "2 queries, 3 pairs, 2 documents\n")
