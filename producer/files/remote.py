"""Read remote files, such as `s3://bucket/corpus.jsonl`, through fsspec: as streams, or in parts.

fsspec is imported only when a remote file is read: it is the extra `remote`. Most file systems need
another library, such as s3fs. Whatever they raise becomes `RefusedFile` or `OSError` here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contract.printable import reason_of
from producer.files.compression import RefusedFile
from producer.files.quoting import without_credentials

#: The name of a protocol, or of several as in `simplecache::s3://bucket/key`.
_PROTOCOL = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
#: The libraries of the most common protocols.
_LIBRARIES = {
    **dict.fromkeys(("http", "https"), "aiohttp"),
    "s3": "s3fs",
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "az"), "adlfs"),
}
#: The longest time without data from an HTTP server.
_HTTP_SILENCE_S = 60.0
#: What changes if a file is replaced, in the entries of fsspec's file systems.
_VERSION_KEYS = (
    *("size", "ETag", "etag", "md5Hash", "generation", "VersionId"),
    *("LastModified", "last_modified", "mtime", "updated", "created", "Last-Modified"),
)
#: Options for a file that is read in parts: the blocks that are requested and kept in memory.
_IN_PARTS: dict[str, Any] = {
    "block_size": 2**22,
    "cache_type": "blockcache",
    "cache_options": {"maxblocks": 8},
}


def is_remote(name: str) -> bool:
    """Return whether a name has a protocol, and is read through fsspec."""
    return _PROTOCOL.match(name) is not None


@contextmanager
def opened(name: str) -> Iterator[io.RawIOBase]:
    """Open a remote file as a stream.

    Raises `RefusedFile` if it cannot be opened, or if it has changed at the end of the block. The
    stream raises `OSError` if the file cannot be read to its end.
    """
    with _opened(name, in_parts=False) as file:
        yield _Stream(file)


@contextmanager
def opened_in_parts(name: str) -> Iterator[io.RawIOBase]:
    """Open a remote file as `opened` does, but request only the parts that are read."""
    with _opened(name, in_parts=True) as file:
        yield _Parts(file)


def has_ends(name: str, mark: bytes) -> bool:
    """Return whether a remote file begins and ends with these bytes.

    Return false if it cannot be read, or not in parts: reading it as a stream will say why.
    """
    try:
        system, path = _file_system(name)
        with system.open(path, "rb", cache_type="none") as file:
            if file.read(len(mark)) != mark:
                return False
            file.seek(-len(mark), io.SEEK_END)
            return bool(file.read(len(mark)) == mark)
    except Exception:  # noqa: BLE001  # of any library
        return False


@contextmanager
def _opened(name: str, *, in_parts: bool) -> Iterator[Any]:
    try:
        system, path = _file_system(name)
        is_http = "http" in system.protocol
        # One response of an HTTP server is one version of a file.
        has_versions = in_parts or not is_http
        before = _version(system, path) if has_versions else None
        options = _IN_PARTS if in_parts else {"block_size": 0} if is_http else {}
        file = system.open(path, "rb", **options)
    except RefusedFile:
        raise
    except Exception as error:
        raise RefusedFile(
            f" the remote file cannot be opened: {_reason(error)}; check the address and your"
            " permissions"
        ) from error
    with file:
        yield file
        if before != (_version_after(system, path) if has_versions else None):
            raise RefusedFile(" the file changed while it was being read; run the command again")


def _file_system(name: str) -> tuple[Any, str]:
    """Return the file system of a name, and the path in it. Raises `RefusedFile`."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise RefusedFile(
            " remote files require fsspec; install it with `pip install 'rerankq[remote]'`"
        ) from error
    try:
        system, path = url_to_fs(name, **_http_options(name))
    except ImportError as error:
        protocol = _PROTOCOL.match(name)
        library = _LIBRARIES.get(protocol[1].lower() if protocol else "")
        hint = f"install it with `pip install {library}`" if library else _reason(error)
        needs = library or "another library"
        raise RefusedFile(f" files at this address require {needs}; {hint}") from error
    return system, path


def _http_options(name: str) -> dict[str, Any]:
    """Return options that let one request take as long as the reading of the file.

    aiohttp ends a request after five minutes. What the user has configured for fsspec goes first.
    """
    protocol = name.partition("://")[0].lower()
    if protocol not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout
    from fsspec.config import conf

    timeout = ClientTimeout(sock_connect=_HTTP_SILENCE_S, sock_read=_HTTP_SILENCE_S)
    configured = conf.get(protocol, {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": timeout, **configured}}


def _version(system: Any, path: str) -> dict[str, Any]:
    system.invalidate_cache()
    found = system.info(path)
    if found.get("type") == "directory":
        raise RefusedFile(" this is a directory; pass a file")
    return {key: found[key] for key in _VERSION_KEYS if key in found}


def _version_after(system: Any, path: str) -> dict[str, Any] | None:
    try:
        return _version(system, path)
    except Exception as error:
        raise OSError(f"it can no longer be found ({_reason(error)})") from error


class _Stream(io.RawIOBase):
    """A remote file, whose errors are `OSError`."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._file.read(len(buffer))
        except Exception as error:
            raise OSError(_reason(error)) from error
        buffer[: len(part)] = part
        return len(part)


class _Parts(_Stream):
    """A remote file that can be read from any place."""

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return int(self._file.seek(offset, whence))
        except Exception as error:
            raise OSError(_reason(error)) from error

    def tell(self) -> int:
        return int(self._file.tell())


def _reason(error: BaseException) -> str:
    """Return what has happened, in one line without credentials."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        # fsspec reports every failure of the first request to an HTTP server as a missing file.
        error = error.__cause__
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if isinstance(status, int) and isinstance(message, str):
        return without_credentials(f"the server answers {status} {message}").strip()
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return without_credentials(reason_of(error))
