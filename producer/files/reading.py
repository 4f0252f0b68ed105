"""Opens an input file and gives its lines, however it is packed or encoded.

gzip, bzip2, xz, and zip or tar with a single file in it are unpacked whatever the file's name;
UTF-16 and UTF-32 are decoded by their byte order mark. Any other kind of file is refused by name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from contract.errors import InvalidInput
from producer.files import file_types
from producer.files.file_types import Compression
from producer.files.quoting import shown

STDIN = "-"

#: Longer than the longest line that can be sent: bounds memory when a file has no lines at all.
MOST_LINE_BYTES = 2**28
_BUFFER_BYTES = 2**17
#: How long a named pipe may be without a writer.
WRITER_WAIT_S = 5.0
#: A packed file may be in a packed file.
_MOST_LAYERS = 3

_UNREADABLE = (
    *(OSError, EOFError, UnicodeDecodeError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)


def lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield each line as UTF-8 bytes, with its end, and its number from 1.

    A line ends at a line feed and nowhere else. Raises `InvalidInput` if the file cannot be read to
    its end, is not text, or changes while it is read.
    """
    number = 0
    try:
        with _opened(path) as readline:
            while raw := readline(MOST_LINE_BYTES):
                number += 1
                if number == 1 or b"\0" in raw or len(raw) >= MOST_LINE_BYTES:
                    _check(raw, number)
                yield number, raw
    except _Refused as error:
        raise InvalidInput(f"{shown(path)}:{error}") from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(
            f"{shown(path)}: cannot be read to its end: {reason} (behind line {number:,}); is the"
            " file whole?"
        ) from error


class _Refused(Exception):
    """Why a file is refused, to be put behind its name and a colon."""


def _check(raw: bytes, number: int) -> None:
    if b"\0" in raw:
        raise _Refused(f"{number}: this is not text (a NUL byte); give a file of text")
    if len(raw) >= MOST_LINE_BYTES:
        raise _Refused(
            f"{number}: the line is longer than {MOST_LINE_BYTES >> 20} MiB; records stand in a"
            " line each"
        )
    if number == 1 and b"\r" in raw.strip(b"\r\n") and not raw.endswith(b"\n"):
        raise _Refused(" its lines end in a carriage return alone; convert them: tr '\\r' '\\n'")


class _Readline(Protocol):
    def __call__(self, size: int, /) -> bytes: ...


@contextmanager
def _opened(path: str) -> Iterator[_Readline]:
    """Open a file; what it yields returns the next line, b"" at the end."""
    if path == STDIN:
        if sys.stdin is None:
            raise _Refused(" standard input is closed")
        yield _readline(sys.stdin.buffer)
        return
    if Path(path).is_fifo():
        with _pipe(path) as pipe:
            yield _readline(pipe)
        return
    with _file(path) as file:
        before = os.fstat(file.fileno())
        yield _readline(file)
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _Refused(" the file changed while it was read; run the command again")


def _file(path: str) -> io.BufferedReader:
    try:
        if Path(path).is_dir():
            raise _Refused(" this is a directory; name a file in it")
        return io.BufferedReader(io.FileIO(path), _BUFFER_BYTES)
    except FileNotFoundError as error:
        raise _Refused(f" {error.strerror}{_nearby(path)}") from error
    except PermissionError as error:
        raise _Refused(f" {error.strerror}; make it readable for this user") from error
    except OSError as error:
        raise _Refused(f" {error.strerror}; name a file that can be read") from error


@contextmanager
def _pipe(path: str) -> Iterator[io.BufferedReader]:
    """Open a named pipe; one that nobody writes to is not waited for without end."""
    with io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as file:
        deadline = time.monotonic() + WRITER_WAIT_S
        # Without a writer, a read gives no bytes; with one that has not written yet, None.
        while (head := file.read(file_types.HEAD_BYTES)) == b"":
            if time.monotonic() > deadline:
                raise _Refused(f" nobody writes to this pipe (waited {WRITER_WAIT_S:.0f} s)")
            time.sleep(0.05)
        os.set_blocking(file.fileno(), True)
        yield _buffered(_Joined(io.BytesIO(head or b""), file))


def _nearby(path: str) -> str:
    """Return a hint at the same file, packed or unpacked, if there is one."""
    other = [path + suffix for suffix in (".gz", ".bz2", ".xz", ".zip")]
    other.append(path.removesuffix(Path(path).suffix))
    found = next((each for each in other if Path(each).is_file()), None)
    return f"; {shown(found)} is there" if found else "; check the path"


def _readline(file: BinaryIO) -> _Readline:
    stream = cast(io.BufferedReader, file)
    for _ in range(_MOST_LAYERS):
        head, stream = _head(stream)
        compression = file_types.detect_compression(head)
        if compression is None:
            return _text(head, stream)
        stream = _UNPACKERS[compression](stream)
    raise _Refused(f" it is packed more than {_MOST_LAYERS - 1} times; unpack it first")


def _text(head: bytes, stream: io.BufferedReader) -> _Readline:
    if encoding := file_types.detect_encoding(head):
        text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
        return lambda size: text.readline(size).encode()
    if unsupported := file_types.detect_unsupported(head):
        raise _Refused(f" this is {unsupported.name}; {unsupported.hint}")
    return stream.readline


def _head(stream: io.BufferedReader) -> tuple[bytes, io.BufferedReader]:
    """Return the first bytes, and a stream that still has them."""
    if stream.seekable():
        return stream.peek(file_types.HEAD_BYTES)[: file_types.HEAD_BYTES], stream
    # A pipe gives what its writer has written so far: peek() would not wait for more.
    head = stream.read(file_types.HEAD_BYTES)
    return head, _buffered(_Joined(io.BytesIO(head), stream))


def _buffered(raw: Any) -> io.BufferedReader:
    return io.BufferedReader(raw, _BUFFER_BYTES)


class _Joined(io.RawIOBase):
    """Some streams, one after another."""

    def __init__(self, *streams: BinaryIO | io.BufferedIOBase | io.RawIOBase) -> None:
        self._streams = list(streams)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._streams:
            if part := self._streams[0].read(len(buffer)):
                buffer[: len(part)] = part
                return len(part)
            self._streams.pop(0)
        return 0


def _gunzipped(stream: io.BufferedReader) -> io.BufferedReader:
    # Buffered, because GzipFile's own readline is slow.
    return _buffered(gzip.GzipFile(fileobj=stream, mode="rb"))


class _Members(io.RawIOBase):
    """The compressed streams that make up a bzip2 or xz file, unpacked.

    The classes of the standard library stop in silence at anything behind the first stream that is
    not the beginning of another: here that is an error.
    """

    def __init__(
        self,
        stream: io.BufferedReader,
        new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
    ) -> None:
        self._stream, self._new = stream, new
        self._member = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            packed = b""
            if self._member.eof:
                # xz pads with zeros.
                packed = self._member.unused_data.lstrip(b"\0")
                while not packed and (more := self._stream.read(_BUFFER_BYTES)):
                    packed = more.lstrip(b"\0")
                if not packed:
                    return 0
                self._member = self._new()
            elif self._member.needs_input:
                packed = self._stream.read(_BUFFER_BYTES)
                if not packed:
                    raise EOFError("it ends in the middle of its packed data")
            part = self._member.decompress(packed, len(buffer))
            if part:
                buffer[: len(part)] = part
                return len(part)


def _unzipped(stream: io.BufferedReader) -> io.BufferedReader:
    if not stream.seekable():
        raise _Refused(" this is a zip archive in a pipe; unpack it first: unzip -p")
    archive = zipfile.ZipFile(stream)
    names = [each.filename for each in archive.infolist() if not each.is_dir()]
    if any(name == "[Content_Types].xml" for name in names):
        raise _Refused(" this is an Excel or Word file; save it as tab-separated text")
    try:
        return _buffered(archive.open(_only(names, "zip")))
    except (RuntimeError, NotImplementedError) as error:  # a password; a rare method
        raise _Refused(f" this is a zip archive that cannot be opened ({error})") from error


def _untarred(stream: io.BufferedReader) -> io.BufferedReader:
    if not stream.seekable():
        raise _Refused(" this is a tar archive in a pipe; unpack it first: tar xO")
    archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
    names = [each.name for each in archive if each.isfile()]
    file = archive.extractfile(_only(names, "tar"))
    return _buffered(file)


def _only(names: list[str], kind: str) -> str:
    """Return the one file of an archive; those that macOS adds do not count."""
    hidden = ("__MACOSX/", "._")
    files = [each for each in names if not each.startswith(hidden) and ".DS_Store" not in each]
    if len(files) == 1:
        return files[0]
    listed = ", ".join(map(shown, files[:5])) + (", ..." if len(files) > 5 else "")
    raise _Refused(
        f" this is a {kind} archive of {len(files)} files{': ' if files else ''}{listed}; unpack it"
        " and name one file"
    )


_UNPACKERS: dict[Compression, Callable[[io.BufferedReader], io.BufferedReader]] = {
    Compression.GZIP: _gunzipped,
    Compression.BZIP2: lambda stream: _buffered(_Members(stream, bz2.BZ2Decompressor)),
    Compression.XZ: lambda stream: _buffered(_Members(stream, lzma.LZMADecompressor)),
    Compression.ZIP: _unzipped,
    Compression.TAR: _untarred,
}
