"""Truncation of pairs to the length that a model can read."""

from __future__ import annotations


def longest_first(query: int, document: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text remain when both have to fit into `room`.

    This is the strategy "longest_first" of the tokenizers library. If truncating the longer text is
    enough, only that is truncated. Otherwise both get equal lengths, and the longer one keeps the
    odd token.
    """
    if query + document <= room:
        return query, document
    shorter = min(query, document)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = room - shorter
    return (longer, shorter) if query > document else (shorter, longer)


def document_room(query: int, room: int) -> int:
    """Return how many tokens a passage may have next to a query, when both have to fit into `room`.

    A query that leaves less than an eighth is truncated to a half, as `longest_first` does.
    """
    left = room - query
    return left if 8 * left >= room else room // 2
