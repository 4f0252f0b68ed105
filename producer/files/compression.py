"""Decompress a file by its content: gzip, bzip2, xz, zstd, and a zip or tar of a single file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import zstandard

from producer.files import file_types
from producer.files.file_types import Compression
from producer.files.quoting import shown
from producer.files.zstd import MAX_WINDOW_BYTES, ZstdMember

_BUFFER_BYTES = 2**17
#: A compressed file may be compressed again.
_MAX_LAYERS = 3


class RefusedFile(Exception):
    """The file cannot be read; the message follows the file's name and a colon."""


def decompress(file: BinaryIO) -> tuple[bytes, io.BufferedReader]:
    """Return the first bytes of a file's decompressed content, and a stream of all of it.

    Raises `RefusedFile` for an archive of several files, or one that cannot be opened.
    """
    stream = cast(io.BufferedReader, file)
    for _ in range(_MAX_LAYERS):
        head, stream = _head(stream)
        compression = file_types.detect_compression(head)
        if compression is None:
            return head, stream
        stream = _DECOMPRESSORS[compression](stream)
    raise RefusedFile(
        f" the file is compressed more than {_MAX_LAYERS - 1} times; decompress it first"
    )


def _head(stream: io.BufferedReader) -> tuple[bytes, io.BufferedReader]:
    """Return the first bytes, and a stream that still includes them."""
    if stream.seekable():
        return stream.peek(file_types.HEAD_BYTES)[: file_types.HEAD_BYTES], stream
    # Not peek(), which would return only what the writer of a pipe has written so far.
    head = stream.read(file_types.HEAD_BYTES)
    return head, buffered(Concatenated(io.BytesIO(head), stream))


def buffered(raw: Any) -> io.BufferedReader:
    """Return a stream that reads a raw stream in large blocks."""
    return io.BufferedReader(raw, _BUFFER_BYTES)


class Concatenated(io.RawIOBase):
    """Several streams, read one after another."""

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
    # Buffered, because the readline of GzipFile is slow.
    return buffered(gzip.GzipFile(fileobj=stream, mode="rb"))


class _Members(io.RawIOBase):
    """The decompressed content of a bzip2, xz or zstd file, which may have several members.

    The classes of the standard library silently ignore data after a member that is not another
    member. Here it is an error, as is an incomplete member, which zstandard ignores too.
    """

    def __init__(
        self,
        stream: io.BufferedReader,
        new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor | ZstdMember],
    ) -> None:
        self._stream, self._new = stream, new
        self._member = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            packed = b""
            if self._member.eof:
                # xz files may be padded with zeros.
                packed = self._member.unused_data.lstrip(b"\0")
                while not packed and (more := self._stream.read(_BUFFER_BYTES)):
                    packed = more.lstrip(b"\0")
                if not packed:
                    return 0
                self._member = self._new()
            elif self._member.needs_input:
                packed = self._stream.read(_BUFFER_BYTES)
                if not packed:
                    raise EOFError("the compressed data ends too early")
            part = self._member.decompress(packed, len(buffer))
            if part:
                buffer[: len(part)] = part
                return len(part)


def _unzstd(stream: io.BufferedReader) -> io.BufferedReader:
    frame = zstandard.get_frame_parameters(stream.peek(file_types.HEAD_BYTES))
    if frame.window_size > MAX_WINDOW_BYTES:
        raise RefusedFile(
            f" this zstd file needs more than {MAX_WINDOW_BYTES >> 20} MiB of memory; compress it"
            " again without --long"
        )
    return buffered(_Members(stream, ZstdMember))


def _unzipped(stream: io.BufferedReader) -> io.BufferedReader:
    if not stream.seekable():
        raise RefusedFile(" a zip archive cannot be read from a stream; extract it with `unzip -p`")
    archive = zipfile.ZipFile(stream)
    names = [each.filename for each in archive.infolist() if not each.is_dir()]
    if any(name == "[Content_Types].xml" for name in names):
        raise RefusedFile(" this is an Excel or Word file; export it as tab-separated text")
    try:
        return buffered(archive.open(_only(names, "zip")))
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unsupported method
        raise RefusedFile(f" this zip archive cannot be opened ({error}); extract it") from error


def _untarred(stream: io.BufferedReader) -> io.BufferedReader:
    if not stream.seekable():
        raise RefusedFile(" a tar archive cannot be read from a stream; extract it with `tar xO`")
    archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
    names = [each.name for each in archive if each.isfile()]
    file = archive.extractfile(_only(names, "tar"))
    return buffered(file)


def _only(names: list[str], kind: str) -> str:
    """Return the only file of an archive, ignoring the files that macOS adds."""
    hidden = ("__MACOSX/", "._")
    files = [each for each in names if not each.startswith(hidden) and ".DS_Store" not in each]
    if len(files) == 1:
        return files[0]
    if not files:
        raise RefusedFile(f" this {kind} archive contains no files")
    listed = ", ".join(map(shown, files[:5])) + (", ..." if len(files) > 5 else "")
    raise RefusedFile(
        f" this is a {kind} archive of {len(files)} files: {listed}; extract it and pass one file"
    )


_DECOMPRESSORS: dict[Compression, Callable[[io.BufferedReader], io.BufferedReader]] = {
    Compression.GZIP: _gunzipped,
    Compression.BZIP2: lambda stream: buffered(_Members(stream, bz2.BZ2Decompressor)),
    Compression.XZ: lambda stream: buffered(_Members(stream, lzma.LZMADecompressor)),
    Compression.ZSTD: _unzstd,
    Compression.ZIP: _unzipped,
    Compression.TAR: _untarred,
}
