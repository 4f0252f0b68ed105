"""Read the lines of an input file in any supported compression and encoding.

UTF-16 and UTF-32 are decoded by their byte order mark. A file that is not text is refused, with its
type and how to convert it.
"""

from __future__ import annotations

import io
import lzma
import os
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from contract.errors import InvalidInput
from contract.printable import reason_of
from producer.files import file_types, json_arrays, remote
from producer.files.compression import Concatenated, RefusedFile, buffered, decompress
from producer.files.quoting import shown

STDIN = "-"

#: More than the longest line that can be sent; limits memory if a file has no line breaks.
MAX_LINE_BYTES = 2**28
#: The number of bytes to read at once.
BLOCK_BYTES = 2**17

_UNREADABLE = (
    *(OSError, EOFError, UnicodeDecodeError),
    *(zlib.error, lzma.LZMAError, zstandard.ZstdError, zipfile.BadZipFile, tarfile.TarError),
)


def blocks(
    path: str, *, writer_wait_s: float = 5.0, arrays: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines as UTF-8 bytes: the number of the first, from 1, and several lines at once.

    Only a line feed ends a line; the last line feed of a block is left out. A named pipe without a
    writer is an error after `writer_wait_s` seconds. Raises `InvalidInput` if the file cannot be
    read to its end, is not text, or changes while it is read.

    If `arrays` is true, a file may also be a JSON array, and each element is a line.
    """
    number = 1
    try:
        with _opened(path, writer_wait_s) as read:
            for block in _records(read) if arrays else _whole_lines(read):
                if b"\0" in block:
                    yield from _before_nul(number, block)
                yield number, block
                number += block.count(b"\n") + 1
    except _TooLong as error:
        raise InvalidInput(
            f"{shown(path)}:{number}: the line is longer than {MAX_LINE_BYTES >> 20} MiB; write one"
            " record per line"
        ) from error
    except RefusedFile as error:
        raise InvalidInput(f"{shown(path)}:{error}") from error
    except _UNREADABLE as error:
        hint = "run the command again" if remote.is_remote(path) else "check that it is complete"
        after = f" after line {number - 1:,}" if number > 1 else ""
        raise InvalidInput(
            f"{shown(path)}: the file cannot be read{after}: {reason_of(error)}; {hint}"
        ) from error


class _TooLong(Exception):
    """A line is longer than `MAX_LINE_BYTES`."""


def _records(read: _Read) -> Iterator[bytes]:
    """Yield the elements of a JSON array, or the lines of any other file."""
    head = [first := read(BLOCK_BYTES)]

    def read_again(size: int, /) -> bytes:
        return head.pop() if head else read(size)

    if json_arrays.is_array(first):
        return json_arrays.elements(read_again, MAX_LINE_BYTES)
    return _whole_lines(read_again)


def _whole_lines(read: _Read) -> Iterator[bytes]:
    """Yield all lines, as many at once as a read returns, without the last line feed."""
    rest, is_first = bytearray(), True
    while chunk := read(BLOCK_BYTES):
        end = chunk.rfind(b"\n")
        if end < 0:
            rest += chunk
            if len(rest) >= MAX_LINE_BYTES:
                raise _TooLong
            continue
        rest += chunk[:end]
        yield bytes(rest)
        rest, is_first = bytearray(chunk[end + 1 :]), False
    if is_first and b"\r" in rest.strip(b"\r"):
        raise RefusedFile(
            " lines end with carriage returns only; convert them with `tr '\\r' '\\n'`"
        )
    if rest:
        yield bytes(rest)


def _before_nul(number: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines before the one with a NUL byte, and then refuse the file."""
    before, ended, _ = block[: block.index(b"\0")].rpartition(b"\n")
    if ended:
        yield number, before
        number += before.count(b"\n") + 1
    raise RefusedFile(
        f"{number}: this is not text, because it contains a NUL byte; pass a text file"
    )


class _Read(Protocol):
    def __call__(self, size: int, /) -> bytes: ...


@contextmanager
def _opened(path: str, writer_wait_s: float) -> Iterator[_Read]:
    """Open a file; yield a function that returns its next bytes, b"" at the end."""
    if path == STDIN:
        if sys.stdin is None:
            raise RefusedFile(" standard input is closed")
        yield _reader(sys.stdin.buffer)
        return
    if remote.is_remote(path):
        with remote.opened(path) as stream:
            yield _reader(buffered(stream))
        return
    if Path(path).is_fifo():
        with _pipe(path, writer_wait_s) as pipe:
            yield _reader(pipe)
        return
    with _file(path) as file:
        before = os.fstat(file.fileno())
        yield _reader(file)
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise RefusedFile(" the file changed while it was being read; run the command again")


def _file(path: str) -> io.BufferedReader:
    try:
        if Path(path).is_dir():
            raise RefusedFile(" this is a directory; pass a file")
        return buffered(io.FileIO(path))
    except FileNotFoundError as error:
        raise RefusedFile(f" {error.strerror}{_nearby(path)}") from error
    except PermissionError as error:
        raise RefusedFile(f" {error.strerror}; make the file readable for this user") from error
    except OSError as error:
        raise RefusedFile(f" {error.strerror}; pass a readable file") from error


@contextmanager
def _pipe(path: str, writer_wait_s: float) -> Iterator[io.BufferedReader]:
    """Open a named pipe, and wait up to `writer_wait_s` seconds for its writer."""
    with io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as file:
        deadline = time.monotonic() + writer_wait_s
        # A read returns no bytes without a writer, and None if the writer has not written yet.
        while (head := file.read(file_types.HEAD_BYTES)) == b"":
            if time.monotonic() > deadline:
                raise RefusedFile(
                    f" no process wrote to this pipe within {writer_wait_s:.0f} s; start the writer"
                    " first"
                )
            time.sleep(0.05)
        os.set_blocking(file.fileno(), True)
        yield buffered(Concatenated(io.BytesIO(head or b""), file))


def _nearby(path: str) -> str:
    """Return a hint about a compressed or decompressed form of the file, if there is one."""
    other = [path + suffix for suffix in (".gz", ".bz2", ".xz", ".zst", ".zip")]
    other.append(path.removesuffix(Path(path).suffix))
    found = next((each for each in other if Path(each).is_file()), None)
    return f"; did you mean {shown(found)}?" if found else "; check the path"


def _reader(file: BinaryIO) -> _Read:
    head, stream = decompress(file)
    if encoding := file_types.detect_encoding(head):
        text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
        return lambda size: text.readline(size).encode()
    if unsupported := file_types.detect_unsupported(head):
        raise RefusedFile(f" this is {unsupported.name}; {unsupported.hint}")
    return stream.read1
