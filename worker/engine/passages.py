"""Cut long documents into passages, score each with the query, and score documents by them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from contract.passages import LEAST_TOKENS, MOST_PASSAGES, Passages
from worker.engine import pieces
from worker.engine.pieces import Pieces
from worker.engine.protocol import Engine

#: A passage that is as long as the query allows has this many tokens less, because some tokenizers
#: need more tokens for a text when it stands alone.
SPARE_TOKENS = 2
#: The share of a passage at its end in which a sentence end is preferred.
END_SHARE = 0.1
#: The end of a sentence, with what closes it, or a blank line.
_SENTENCE_END = re.compile(
    "[.!?\u2026]++[\"'\u201d\u2019)\\]]*+(?=\\s)|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d\u2019\uff09]*"
    r"|(?=\n[^\S\n]*\n)"
)


@dataclass(frozen=True)
class Cut:
    """The passages of a document, by their places in its text."""

    bounds: list[tuple[int, int]]
    #: About how many tokens of the document are in no passage.
    unread: int = 0
    #: Whether they are shorter than requested.
    shortened: bool = False


class Cutter:
    """Cuts documents with the tokenizer of an engine. It remembers what it has cut."""

    def __init__(self, engine: Engine, passages: Passages) -> None:
        self._engine = engine
        self._passages = passages
        self._rooms: dict[str, int] = {}
        self._cuts: dict[tuple[str, int], Cut] = {}

    def cut(self, query: str, text: str) -> Cut:
        """Return the passages of a document to score with a query."""
        if query not in self._rooms:
            self._rooms[query] = self._engine.room(query)
        # Most queries leave enough room for whole passages, so that their cuts are the same.
        room = min(self._rooms[query], self._passages.tokens + SPARE_TOKENS)
        key = (text, room)
        if key not in self._cuts:
            self._cuts[key] = self._cut(text, room)
        return self._cuts[key]

    def forget(self) -> None:
        """Forget the documents."""
        self._cuts.clear()

    def _cut(self, text: str, room: int) -> Cut:
        asked = self._passages
        fitting, limit = min(asked.tokens, room), min(asked.tokens, room - SPARE_TOKENS)
        whole = Cut([(0, len(text))])
        if len(text) <= fitting or limit < LEAST_TOKENS:
            # A token has at least one character, in nearly all tokenizers. What does not fit into
            # the model is truncated, and counted.
            return whole
        most = 1 if asked.aggregate == "first" else MOST_PASSAGES
        found, read = pieces.at_least(
            text, limit + asked.stride * most + pieces.MOST_OF_A_WORD, self._engine.pieces
        )
        tokens = int(found.tokens.sum())
        if read == len(text) and tokens <= fitting:
            return whole
        bounds, used = _bounds(text, found, limit, asked.stride, most)
        total = tokens + round(tokens * (len(text) - read) / max(1, read))
        return Cut(bounds, total - used, limit < asked.tokens)


def _bounds(
    text: str, found: Pieces, limit: int, stride: int, most: int
) -> tuple[list[tuple[int, int]], int]:
    """Return the places of the passages, and the number of tokens before the end of the last."""
    # As lists, because a search in an array for one number takes several times as long.
    begins, ends = found.begins.tolist(), found.ends.tolist()
    before: list[int] = [0, *np.cumsum(found.tokens).tolist()]
    bounds: list[tuple[int, int]] = []
    start = end = 0
    while end < len(found) and len(bounds) < most:
        if bounds:
            following = bisect_left(before, before[start] + stride)
            start = min(max(following, start + 1), end)
        last = bisect_right(before, before[start] + limit) - 1
        end = max(last, start + 1)
        if end < len(found):
            least = bisect_left(before, before[start] + limit - int(END_SHARE * limit))
            end = _sentence_end(text, begins, ends, max(least, start + 1), end)
        bounds.append((begins[start], ends[end - 1]))
    return bounds, before[end]


def _sentence_end(text: str, begins: list[int], ends: list[int], least: int, most: int) -> int:
    """Return the last number of pieces up to `most` that end a sentence; `most` if none do."""
    found = _SENTENCE_END.finditer(text, begins[least - 1], begins[most])
    for place in reversed([match.end() for match in found]):
        number = bisect_right(ends, place)
        if least <= number <= most:
            return number
    return most
