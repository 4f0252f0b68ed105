"""Compress an output according to the end of its name.

The bytes depend only on the content, so that a resumed run writes the same file: gzip files have
neither a name nor a time.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import zstandard

from contract.errors import InvalidInput


def _zstd(file: IO[bytes]) -> Any:
    context = zstandard.ZstdCompressor(write_checksum=True)
    return context.stream_writer(file, closefd=False)


_COMPRESSORS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile("", "wb", fileobj=file, mtime=0),
    ".bz2": lambda file: bz2.BZ2File(file, "wb"),
    ".xz": lambda file: lzma.LZMAFile(file, "wb"),  # noqa: SIM115
    ".zst": _zstd,
}


def suffix_of(name: str) -> str:
    """Return the end of a name that asks for compression, or ""."""
    return next((suffix for suffix in _COMPRESSORS if name.endswith(suffix)), "")


def check_not_parquet(name: str, is_parquet: bool) -> None:
    """Raise `InvalidInput` if a Parquet file would be compressed again, because few can read it."""
    suffix = suffix_of(name)
    if suffix and (is_parquet or name.removesuffix(suffix).endswith(".parquet")):
        raise InvalidInput(
            f"{name}: Parquet files are compressed within; choose a name without {suffix}"
        )


@contextmanager
def compressing(name: str, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield a file that compresses into `file` if the name asks for it, else `file` itself.

    At the end of the block, everything is in `file`, which stays open.
    """
    suffix = suffix_of(name)
    if not suffix:
        yield file
        return
    with _COMPRESSORS[suffix](file) as packed:
        yield cast("IO[bytes]", packed)
