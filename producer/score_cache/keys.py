"""The keys of pairs in a cache of scores: digests, so that the file contains no texts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

#: The first bytes of a key are the same for all documents of a query. Its pairs are therefore next
#: to each other in the file, and one page has many of them.
QUERY_BYTES, PAIR_BYTES = 4, 12
KEY_BYTES = QUERY_BYTES + PAIR_BYTES


def pair_keys(query: str, texts: Sequence[str]) -> list[bytes]:
    """Return the key of each document's text with the query.

    Among 100 million pairs, two have the same key with a probability of less than 1 in 10^12.
    """
    salt = blake2b(query.encode(), digest_size=16).digest()
    start = salt[:QUERY_BYTES]
    return [
        start + blake2b(text.encode(), digest_size=PAIR_BYTES, salt=salt).digest() for text in texts
    ]


def query_range(key: bytes) -> tuple[bytes, bytes]:
    """Return the lowest and the highest key of the same query."""
    start = key[:QUERY_BYTES]
    return start + b"\x00" * PAIR_BYTES, start + b"\xff" * PAIR_BYTES
