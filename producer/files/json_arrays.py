"""Split a JSON array of objects into its elements, which are then read like lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from producer.files.compression import RefusedFile
from producer.files.quoting import quoted

_CHUNK_BYTES = 2**17
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*(?:[{\]]|$)")
#: A string, a bracket, or the quote before a string that continues in the next chunk.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)


def is_array(head: bytes) -> bool:
    """Return whether a file with these first bytes is an array of objects."""
    return _BEGINNING.match(head) is not None


def elements(read: Callable[[int], bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield each object without line feeds, as soon as it is complete. Raises `RefusedFile`."""
    number, depth = 1, 0
    #: What has been read since the last element, and the string that is not complete.
    part, string = bytearray(), b""
    while chunk := read(_CHUNK_BYTES):
        data, begin, end = string + chunk, 0, 0
        string = b""
        for token in _TOKEN.finditer(data):
            mark, end = token[0], token.end()
            if mark == b'"':
                string = data[token.start() :]
                break
            if len(mark) > 1:  # a string
                continue
            if mark in b"}]":
                depth -= 1
                if depth == 0:
                    _check_end(number, bytes(part + data[begin : token.start()]))
                    _check_rest(number, data[end:], read)
                    return
                if depth == 1:
                    yield bytes(part + data[begin:end]).replace(b"\n", b" ")
                    part.clear()
                    begin, number = end, number + 1
                continue
            if depth == 1:
                _check_between(number, bytes(part + data[begin : token.start()]), mark)
                part.clear()
                begin = token.start()
            depth += 1
            if depth == 1:
                begin = end
        part += data[begin : len(data) - len(string)]
        if len(part) + len(string) > max_bytes:
            raise RefusedFile(f"{number}: the element is longer than {max_bytes >> 20} MiB")
    raise RefusedFile(f"{number}: the array ends too early; check that the file is complete")


def _check_between(number: int, between: bytes, mark: bytes) -> None:
    if between.strip() != (b"," if number > 1 else b"") or mark != b"{":
        raise RefusedFile(f"{number}: expected an object{_found(between.strip(b', ') + mark)}")


def _check_end(number: int, before: bytes) -> None:
    if before.strip():
        raise RefusedFile(f"{number}: expected an object{_found(before + b']')}")


def _check_rest(number: int, rest: bytes, read: Callable[[int], bytes]) -> None:
    while rest.isspace() or not rest:
        if not (rest := read(_CHUNK_BYTES)):
            return
    raise RefusedFile(
        f"{number}: the array has ended, but the file continues{_found(rest)}; pass one array"
    )


def _found(what: bytes) -> str:
    return f", found {quoted(what.strip()[:20].decode(errors='replace'))}"
