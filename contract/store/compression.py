"""How a record is packed for Redis."""

from __future__ import annotations

import zlib


def compress(body: bytes) -> bytes:
    """Pack a record; level 1, because the worker's time is dearer than Redis' memory."""
    return zlib.compress(body, level=1)


def decompress(packed: bytes, limit_bytes: int) -> bytes:
    """Unpack a record of at most `limit_bytes`; raises `zlib.error` if it is none, or larger."""
    unpacker = zlib.decompressobj()
    body = unpacker.decompress(packed, limit_bytes + 1)
    if len(body) > limit_bytes:
        raise zlib.error(f"more than {limit_bytes:,} bytes")
    if not unpacker.eof:
        raise zlib.error("cut short")
    return body
