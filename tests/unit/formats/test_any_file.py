"""A file is read however it is packed; a wrong line is reported with its file and number."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import InvalidInput
from producer.files import reading
from producer.formats.records import InvalidLines
from producer.formats.trec_run import read_run
from tests.command_line import piped_to_standard_input
from tests.unit.formats.samples import (
    RUN,
    TEXTS,
    Reader,
    every_reader,
    every_skipper,
    read,
    refusal,
    texts,
    write,
)


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


@every_reader
@pytest.mark.parametrize(
    "content_", [b"", b"\n \n\r\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)]
)
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
    assert message.startswith(f"{before + 1}: byte 0xe9 in column 4 is not valid UTF-8; ")
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
    with pytest.raises(InvalidInput, match="corpus: the file changed while it was being read"):
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
    with pytest.raises(InvalidInput, match="pipe: no process wrote to this pipe"):
        list(reading.blocks(str(tmp_path / "pipe"), writer_wait_s=0.1))


@pytest.mark.parametrize("archive", ["zip", "tar"])
def test_an_archive_in_a_pipe_is_refused_with_the_way_out(tmp_path: Path, archive: str) -> None:
    write(tmp_path / "run", RUN)
    packed = shutil.make_archive(str(tmp_path / "packed"), archive, tmp_path, "run")
    said = f"-: a {archive} archive cannot be read from a stream"
    with (
        piped_to_standard_input(Path(packed).read_bytes()),
        pytest.raises(InvalidInput, match=re.escape(said)),
    ):
        list(read_run("-", InvalidLines()))


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
