"""Detect the type of a file from its first bytes, and how to decompress or convert it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

#: The number of first bytes that these functions need.
HEAD_BYTES = 1024


class Compression(Enum):
    """A compression or archive format that can be read."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"
    ZIP = "zip"
    TAR = "tar"


class UnsupportedFile(NamedTuple):
    """A type of file that is not lines of text, and what the user can do with it."""

    name: str
    hint: str


_COMPRESSIONS = (
    (b"\x1f\x8b", Compression.GZIP),
    *((b"BZh%d1AY&SY" % level, Compression.BZIP2) for level in range(1, 10)),
    *((b"BZh%d\x17rE8P\x90" % level, Compression.BZIP2) for level in range(1, 10)),  # empty files
    (b"\xfd7zXZ\0", Compression.XZ),
    (b"\x5d\0\0", Compression.XZ),  # the older .lzma format
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    # Frames without content, with which pzstd and seekable files begin.
    *((b"%c\x2a\x4d\x18" % kind, Compression.ZSTD) for kind in range(0x50, 0x60)),
    (b"PK\3\4", Compression.ZIP),
    (b"PK\5\6", Compression.ZIP),  # an empty archive
)

#: Longer marks first, because the mark of UTF-32 begins with that of UTF-16.
_ENCODINGS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

_EXPORT = "export it as JSONL or tab-separated text"
_TEXT = "pass a text file"
_TO_JSONL = 'convert it to JSONL with "_id" and "text" in each line'
_LOGIN = "the download may have saved a login or error page; download the file again"

_UNSUPPORTED = (
    (b"\x04\x22\x4d\x18", "an lz4 file", "decompress it with `lz4 -d`"),
    (b"\x1f\x9d", "a file of compress(1)", "decompress it with `gzip -d`"),
    (b"\xff\x06\0\0sNaPpY", "a snappy file", "decompress it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "extract it with `7z x`"),
    (b"Rar!\x1a\x07", "a RAR archive", "extract it"),
    (b"Obj\x01", "an Avro file", "convert it to JSONL with `avro-tools tojson`"),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", _EXPORT),
    (b"\xff\xff\xff\xff", "an Arrow stream", "pass the folder that `datasets` has written it to"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"\x80\x02", "a Python pickle", _EXPORT),
    (b"\x80\x03", "a Python pickle", _EXPORT),
    (b"\x80\x04", "a Python pickle", _EXPORT),
    (b"\x80\x05", "a Python pickle", _EXPORT),
    (b"%PDF-", "a PDF document", "extract its text"),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"\x89PNG\r\n", "a PNG image", _TEXT),
    (b"\xff\xd8\xff", "a JPEG image", _TEXT),
    (b"\x7fELF", "an executable", _TEXT),
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "fetch the file with `git lfs pull`",
    ),
)

#: Text may also begin with these bytes, so they count only if control characters follow.
_UNSUPPORTED_IF_BINARY = (
    (
        b"PAR1",
        "a Parquet file",
        f"pass a complete and uncompressed file that is not in a pipe, or {_EXPORT}",
    ),
    (b"ARROW1", "an Arrow file", _EXPORT),
    (b"FEA1", "a Feather file", _EXPORT),
    (b"ORC", "an ORC file", _EXPORT),
    (b"LZIP", "an lzip file", "decompress it with `lzip -d`"),
)

#: Compared in lower case, without leading white space.
_MARKUP = (
    (b"<!doctype html", "an HTML page", _LOGIN),
    (b"<html", "an HTML page", _LOGIN),
    (b"<?xml", "an XML file", "convert it to JSONL or tab-separated text"),
    (b"<doc>", "a TREC document file", _TO_JSONL),
    (b"<top>", "a TREC topics file", _TO_JSONL),
)


def detect_compression(head: bytes) -> Compression | None:
    """Return the compression of a file with these first bytes; None if it is not compressed."""
    if head[257:262] == b"ustar":
        return Compression.TAR
    return next((kind for mark, kind in _COMPRESSIONS if head.startswith(mark)), None)


def detect_encoding(head: bytes) -> str | None:
    """Return the encoding indicated by a byte order mark; None for UTF-8."""
    return next((name for mark, name in _ENCODINGS if head.startswith(mark)), None)


def detect_unsupported(head: bytes) -> UnsupportedFile | None:
    """Return the type of a file with these first bytes; None if it may be text."""
    binary = any(byte < 8 for byte in head)
    for mark, what, hint in (*_UNSUPPORTED, *(_UNSUPPORTED_IF_BINARY if binary else ())):
        if head.startswith(mark):
            return UnsupportedFile(what, hint)
    if head[8:12] == b"DUCK":
        return UnsupportedFile("a DuckDB database", _EXPORT)
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, what, hint in _MARKUP:
        if plain.startswith(mark):
            return UnsupportedFile(what, hint)
    return _unmarked_utf_16(head)


def _unmarked_utf_16(head: bytes) -> UnsupportedFile | None:
    """Return the type for UTF-16 without a byte order mark, if the bytes look like it."""
    even, odd = head[:64:2], head[1:64:2]
    for name, zeros, letters in (("UTF-16LE", odd, even), ("UTF-16BE", even, odd)):
        if len(zeros) > 3 and not any(zeros) and all(letters):
            return UnsupportedFile(
                f"{name} without a byte order mark", f"convert it with `iconv -f {name} -t UTF-8`"
            )
    return None
