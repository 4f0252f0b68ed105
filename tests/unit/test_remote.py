"""Remote files are read as streams, and each error is one line with the address."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from contract.errors import InvalidInput
from contract.settings import Settings
from producer.files import outputs, reading
from producer.files.quoting import quoted, shown
from producer.formats import parquet_records
from producer.formats.records import InvalidLines
from producer.formats.table_files import is_table
from producer.rescore.input_files import InputFiles
from producer.rescore.staging import Staging
from tests.command_line import rerankq
from tests.web_files import web_server

LINES = "".join(f"d{n}\ttext {n} {n * n}\n" for n in range(50_000)).encode()
FILES = {
    "/corpus": b"d1\tone\nd2\ttwo\n",
    "/queries": b"q1\tfirst\n",
    "/run": b"q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\n",
    "/lines": LINES,
    "/lines.zst": zstandard.compress(LINES),
}
NOWHERE = {"RERANKQ_REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with web_server(FILES) as address:
        yield address


def content(name: str) -> bytes:
    return b"\n".join(block for _, block in reading.blocks(name)) + b"\n"


def collection(web: str) -> list[str]:
    """Return options for the files of the collection."""
    options = ("corpus", "queries", "run")
    return [part for each in options for part in (f"--{each}", f"{web}/{each}")]


def refusal(name: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        content(name)
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{name}: ")


@pytest.mark.parametrize("path", ["/lines", "/lines.zst"])
def test_a_file_of_a_web_server_is_read_whether_compressed_or_not(web: str, path: str) -> None:
    assert content(web + path) == LINES


def test_a_missing_and_a_forbidden_file_and_a_silent_host_are_told_apart(web: str) -> None:
    hint = "check the address and your permissions"
    opening = "the remote file cannot be opened: "
    assert refusal(f"{web}/no") == f"{opening}the server answers 404 Not Found; {hint}"
    assert refusal(f"{web}/forbidden") == f"{opening}the server answers 403 Forbidden; {hint}"
    assert "Cannot connect to host 127.0.0.1:1" in refusal("http://127.0.0.1:1/lines")


@pytest.mark.parametrize("path", ["/cut/lines", "/cut/lines.zst"])
def test_a_connection_that_is_cut_is_refused_with_the_line_that_was_reached(
    web: str, path: str
) -> None:
    said = refusal(web + path)
    assert said.startswith("the file cannot be read")
    # Nothing may have been unpacked of a compressed file.
    assert path.endswith(".zst") or said.startswith("the file cannot be read after line ")
    assert said.endswith("run the command again")


def test_the_command_line_reads_a_collection_from_a_web_server(web: str, tmp_path: Path) -> None:
    files = [
        part for each in ("corpus", "queries", "run") for part in (f"--{each}", f"{web}/{each}")
    ]
    output = ["--output", str(tmp_path / "out")]
    done = rerankq("rescore", *files, *output, "--dry-run", environment=NOWHERE)
    assert (done.returncode, done.stderr) == (0, "1 query, 2 pairs, 2 documents\n")


def test_a_run_is_resumed_from_a_copy_of_its_files_at_another_place(
    web: str, tmp_path: Path
) -> None:
    """Because a manifest has digests of the contents, and not names, sizes or times."""
    digests = []
    for path, content_ in FILES.items():
        (tmp_path / path[1:]).write_bytes(content_)
    for place in (web, str(tmp_path)):
        with Staging(Settings(), InvalidLines()) as staging:
            InputFiles(f"{place}/corpus", f"{place}/queries", f"{place}/run").load(staging)
            digests.append(staging.inputs())
    assert digests[0] == digests[1]


def test_a_remote_output_is_refused_in_one_line(web: str) -> None:
    files = [
        part for each in ("corpus", "queries", "run") for part in (f"--{each}", f"{web}/{each}")
    ]
    done = rerankq("rescore", *files, "--output", "s3://bucket/out", environment=NOWHERE)
    assert done.returncode == 2
    assert "s3://bucket/out: remote files are only read; write to a local file" in done.stderr


def test_a_file_in_a_store_that_changes_while_it_is_read_is_refused() -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/changing", LINES)
    try:
        blocks = reading.blocks("memory://changing")
        next(blocks)
        store.pipe_file("/changing", LINES + b"more\n")
        with pytest.raises(InvalidInput, match="changed while it was being read"):
            list(blocks)
    finally:
        store.rm("/changing")


def test_a_missing_file_and_a_directory_of_a_store_are_refused(tmp_path: Path) -> None:
    assert "there is no such file" in refusal("memory://missing")
    with pytest.raises(InvalidInput, match="this is a directory"):
        content(f"file://{tmp_path}")


def test_a_missing_library_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert refusal("s3://bucket/corpus").endswith(
        "require s3fs; install it with `pip install s3fs`"
    )
    assert "Protocol not known" in refusal("nothing://corpus")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert "pip install 'rerankq[remote]'" in refusal("s3://bucket/corpus")


@pytest.fixture(scope="module")
def table() -> bytes:
    """Return a Parquet file of 16 MiB, with a large column that no reader needs."""
    rows = 4
    columns = {"_id": [f"d{n}" for n in range(rows)], "text": [f"text {n}" for n in range(rows)]}
    blobs = {"image": [os.urandom(2**22) for _ in range(rows)]}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns | blobs), file, row_group_size=rows)
    return file.getvalue()


def texts(name: str) -> list[str]:
    return [
        each.text for _, each in parquet_records.read_texts(name, InvalidLines(), 100, "corpus", {})
    ]


def test_only_the_parts_of_a_parquet_file_that_are_needed_are_requested(table: bytes) -> None:
    sent: list[int] = []
    with web_server({"/corpus": table}, sent) as address:
        name = f"{address}/corpus?X-Amz-Signature=secret"
        assert is_table(name)
        assert texts(name) == [f"text {n}" for n in range(4)]
    assert sum(sent) < 2.1 * 2**22 < len(table) / 1.9
    assert len(sent) <= 5


def test_a_parquet_file_of_a_store_is_read_and_refused_if_it_changes(table: bytes) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/table", table)
    try:
        assert is_table("memory://table")
        assert not is_table("memory://other")
        rows = parquet_records.read_texts("memory://table", InvalidLines(), 100, "corpus", {})
        next(rows)
        store.pipe_file("/table", table)
        with pytest.raises(InvalidInput, match="changed while it was being read"):
            list(rows)
    finally:
        store.rm("/table")


def test_a_parquet_file_that_cannot_be_read_in_parts_is_refused(table: bytes) -> None:
    with web_server({"/corpus": table}) as address:
        assert not is_table(f"{address}/whole/corpus")
        said = refusal(f"{address}/whole/corpus")
        assert said.startswith("this is a Parquet file; pass a complete")
        with pytest.raises(InvalidInput, match="the file cannot be read after row 0"):
            texts(f"{address}/cut/corpus")


@pytest.mark.parametrize(
    "name",
    [
        "http://me:secret@127.0.0.1:1/lines",
        "http://127.0.0.1:1/lines?X-Amz-Credential=me&X-Amz-Signature=secret",
        "http://127.0.0.1:1/lines?se=2030&sig=secret%3D",
        "WEB/no?t=secret",
        "WEB/forbidden?t=secret#secret",
        "memory://missing?token=secret",
        "s3://me:secret@bucket/corpus?versionId=secret",
        "nothing://me:secret@host/corpus",
        "https:/host/corpus?X-Amz-Signature=secret&sig=secret",
    ],
)
def test_credentials_are_not_shown(web: str, name: str, tmp_path: Path) -> None:
    name = name.replace("WEB", web)
    said = []
    for read in (content, texts):
        with pytest.raises(InvalidInput) as caught:
            read(name)
        said.append(str(caught.value))
    for option in ("--output", "--results", "--cache"):
        others = {"--output": str(tmp_path / "out")} | {option: name}
        options = [part for pair in others.items() for part in pair]
        done = rerankq("rescore", *collection(web), *options, "--dry-run", environment=NOWHERE)
        said.append(done.stdout + done.stderr)
    assert "secret" not in " ".join(said)
    assert "***" in said[0]


@pytest.mark.parametrize(
    ("name", "shown_"),
    [
        ("s3://bucket/a@b/c:d@e.jsonl", "s3://bucket/a@b/c:d@e.jsonl"),
        ("https://host:8443/x@y?z=1", "https://host:8443/x@y?***"),
        ("https://me:pass/w?rd@host/x", "https://***@host/x"),
        ("simplecache::https://me@host/x#part", "simplecache::https://***@host/x?***"),
        ("corpus?.jsonl", "corpus?.jsonl"),
        ("a/b?key=c&d=e", "a/b?key=***&d=e"),
    ],
)
def test_names_stay_recognizable_without_credentials(name: str, shown_: str) -> None:
    assert shown(name) == shown_
    assert quoted(name) == f"'{name}'"


def test_a_remote_file_is_never_a_local_output() -> None:
    with pytest.raises(InvalidInput, match="remote files are only read"):
        outputs.check_writable("https://example.org/out")
