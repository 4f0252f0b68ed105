"""How many tokens of a pair are read, if it has more than the model has room for."""

from __future__ import annotations


def longest_first(query: int, document: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each remain where both have to go into `room`.

    What the tokenizers library does under the name "longest_first": only the longer one is
    truncated if that is enough; else both become equal, and the longer one gets the odd token.
    """
    if query + document <= room:
        return query, document
    shorter = min(query, document)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = room - shorter
    return (longer, shorter) if query > document else (shorter, longer)
