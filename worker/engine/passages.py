"""Cut long documents into passages, score each with the query, and score documents by them."""

from __future__ import annotations

import re
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
    #: Whether they are shorter than asked for.
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
    before = np.concatenate([[0], np.cumsum(found.tokens)])
    bounds: list[tuple[int, int]] = []
    start = end = 0
    while end < len(found) and len(bounds) < most:
        if bounds:
            following = int(np.searchsorted(before, before[start] + stride))
            start = min(max(following, start + 1), end)
        last = int(np.searchsorted(before, before[start] + limit, side="right")) - 1
        end = max(last, start + 1)
        if end < len(found):
            least = np.searchsorted(before, before[start] + limit - int(END_SHARE * limit))
            end = _sentence_end(text, found, max(int(least), start + 1), end)
        bounds.append((int(found.begins[start]), int(found.ends[end - 1])))
    return bounds, int(before[end])


def _sentence_end(text: str, found: Pieces, least: int, most: int) -> int:
    """Return the last number of pieces up to `most` that end a sentence; `most` if none do."""
    begin, end = int(found.begins[least - 1]), int(found.begins[most])
    for place in reversed([match.end() for match in _SENTENCE_END.finditer(text, begin, end)]):
        number = int(np.searchsorted(found.ends, place, side="right"))
        if least <= number <= most:
            return number
    return most
