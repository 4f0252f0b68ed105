"""Fast tokenization of (query, document) pairs: each text, or each word, is tokenized once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from worker.engine.pair_columns import PairColumns
from worker.engine.pair_layout import Ids, PairTokens
from worker.engine.pieces import Pieces
from worker.engine.text_tokenizers import (
    ID_BYTES,
    TextTokenizer,
    WordTokenizer,
    splits_at_spaces,
)
from worker.engine.truncation import document_room, longest_first

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Maximum characters of all remembered texts: some 100,000 documents, or 100 MB. Looking up a text
#: is ten times as fast as looking up its words, and only engines on a GPU do it.
REMEMBERED_TEXT_CHARS = 40_000_000

#: Texts processed at once, to limit memory.
TEXTS_AT_ONCE = 1024


class PairTokenizer:
    """A faster equivalent of `tokenizer` with truncation of pairs to `max_length`.

    `special` is the number of special tokens around the texts of a pair: see `PairLayout`.
    `columns` remembers texts of about `remembered_chars` characters.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        special: int = 3,
        remembered_chars: int = REMEMBERED_TEXT_CHARS,
    ) -> None:
        # A copy, because tokenizers are not thread-safe and calls to the original change its
        # truncation and padding.
        backend = copy.deepcopy(tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        self._texts = (
            WordTokenizer(backend) if splits_at_spaces(backend) else TextTokenizer(backend)
        )
        self._special = special
        self._max_length = max_length
        #: The ids of recent texts, as bytes, for `columns`, which is called with portions of a run.
        self._remembered: dict[str, bytes] = {}
        self._remembered_chars = 0
        self._most_remembered_chars = remembered_chars
        #: About how many ids those texts have that have more than are kept.
        self._totals: dict[str, int] = {}

    @property
    def waits_for_other_threads(self) -> bool:
        """Return whether most of the time passes in threads of the tokenizers library."""
        return not isinstance(self._texts, WordTokenizer)

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[PairTokens]:
        """Return the ids of each pair, in their order."""
        texts = list(dict.fromkeys(chain.from_iterable(pairs)))
        totals: dict[str, int] = {}
        ids = dict(zip(texts, map(_as_array, self._encode(texts, totals)), strict=True))
        return [self._pair(pair, ids[pair[0]], ids[pair[1]], totals) for pair in pairs]

    def columns(self, pairs: Sequence[tuple[str, str]]) -> PairColumns:
        """Return the ids of all pairs as columns, in their order."""
        self._remember(dict.fromkeys(chain.from_iterable(pairs)))
        of_text = self._remembered.__getitem__
        queries = [of_text(query) for query, _ in pairs]
        documents = [of_text(document) for _, document in pairs]
        sizes = np.fromiter(map(len, chain(queries, documents)), np.int32, 2 * len(pairs))
        lengths = (sizes // ID_BYTES).reshape(2, -1).T  # [pairs, 2]
        truncated = lengths.sum(1) > self._max_length - self._special
        lost = np.zeros(len(pairs), np.int32)
        for place in np.flatnonzero(truncated).tolist():
            query, document = self._room(pairs[place], *lengths[place].tolist())
            lost[place] = self._total(pairs[place], lengths[place], self._totals) - query - document
            queries[place] = queries[place][: query * ID_BYTES]
            documents[place] = documents[place][: document * ID_BYTES]
            lengths[place] = query, document
        whole = (lengths.sum(1) + self._special).astype(np.int32)
        return PairColumns(queries, documents, lengths[:, 0].copy(), whole, lost)

    def room(self, query: str) -> int:
        """Return how many tokens a passage may have next to this query."""
        tokens = len(self._encode([query], {})[0]) // ID_BYTES
        room = self._max_length - self._special
        return document_room(tokens, room)

    def pieces(self, text: str) -> Pieces:
        """Return the words of a text, and the tokens of long words."""
        return self._texts.pieces(text)

    def _remember(self, texts: dict[str, None]) -> None:
        """Tokenize those of the texts that were not in recent pairs."""
        if self._remembered_chars > self._most_remembered_chars:
            self._remembered, self._remembered_chars = {}, 0
            self._totals = {}
        new = [text for text in texts if text not in self._remembered]
        self._remembered.update(zip(new, self._encode(new, self._totals), strict=True))
        self._remembered_chars += sum(map(len, new))

    def _encode(self, texts: Sequence[str], totals: dict[str, int]) -> list[bytes]:
        """Return the first ids of each text, as many as the model reads, as bytes of int32.

        `totals` receives the number of ids of each text that has more.
        """
        encoded: list[bytes] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[start : start + TEXTS_AT_ONCE]
            encoded += self._texts.encode(some, self._max_length, totals)
        return encoded

    def _pair(
        self, pair: tuple[str, str], query: Ids, document: Ids, totals: dict[str, int]
    ) -> PairTokens:
        lengths = len(query), len(document)
        if sum(lengths) <= self._max_length - self._special:
            return PairTokens(query, document, 0, self._special)
        kept = self._room(pair, *lengths)
        lost = self._total(pair, lengths, totals) - sum(kept)
        return PairTokens(query[: kept[0]], document[: kept[1]], lost, self._special)

    def _total(self, pair: tuple[str, str], lengths: Iterable[int], totals: dict[str, int]) -> int:
        """Return about how many tokens a pair has."""
        return sum(totals.get(text, int(known)) for text, known in zip(pair, lengths, strict=True))

    def _room(self, pair: tuple[str, str], query: int, document: int) -> tuple[int, int]:
        """Return how many tokens of each text are read of a pair that is too long."""
        if min(query, document) == self._max_length:  # each may be longer: compare full lengths
            query, document = self._texts.count(pair[0]), self._texts.count(pair[1])
        return longest_first(query, document, self._max_length - self._special)


def _as_array(ids: bytes) -> Ids:
    return np.frombuffer(ids, np.int32)
