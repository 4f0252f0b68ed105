"""Fast tokenization of (query, document) pairs: each text, or each word, is tokenized once."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from worker.engine.pair_columns import PairColumns
from worker.engine.pieces import Pieces, of_tokens, of_words
from worker.engine.truncation import document_room, longest_first

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = npt.NDArray[np.int32]

#: Maximum characters of all remembered words: some 50,000 words, or 12 MB.
REMEMBERED_CHARS = 400_000

#: The type of an id in `array`, and its size: int32.
ID_TYPE, ID_BYTES = "i", 4

#: Maximum characters of all remembered texts: some 10,000 documents, or 10 MB.
REMEMBERED_TEXT_CHARS = 4_000_000

#: Texts processed at once, to limit memory.
TEXTS_AT_ONCE = 1024

#: Of words with this many characters for each id that is read, only the first are tokenized: they
#: are text without spaces, such as Chinese.
LONG_CHARS_PER_ID, HEAD_CHARS_PER_ID = 8, 4


@dataclass(frozen=True)
class PairTokens:
    """The token ids of a pair after truncation, without special tokens."""

    query: Ids
    document: Ids
    #: About how many tokens were cut off.
    lost: int
    #: The number of special tokens around the texts: see `PairLayout`.
    special: int = 3

    @property
    def length(self) -> int:
        """The number of tokens of the pair, including special tokens."""
        return len(self.query) + len(self.document) + self.special


@dataclass(frozen=True)
class PairLayout:
    """The special tokens before, between and after the texts of a pair, and the padding's id.

    BERT has `[CLS] query [SEP] document [SEP]`, and RoBERTa `<s> query </s></s> document </s>`.
    """

    before: Ids
    between: Ids
    after: Ids
    padding_id: int

    @property
    def tokens(self) -> int:
        """The number of special tokens of a pair."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> PairLayout | None:
        """Return the layout of a tokenizer; None if it adds tokens elsewhere, or none in front."""
        encoding = tokenizer.backend_tokenizer.encode("a", "b")
        parts: dict[object, list[int]] = {}
        seen: list[int] = []
        for token_id, text in zip(encoding.ids, encoding.sequence_ids, strict=True):
            if text is not None and text not in seen:
                seen.append(text)
            elif text is None:
                parts.setdefault(len(seen), []).append(token_id)
        if seen != [0, 1] or not parts.get(0) or tokenizer.pad_token_id is None:
            return None
        before, between, after = (np.array(parts.get(at, []), np.int32) for at in range(3))
        return cls(before, between, after, tokenizer.pad_token_id)

    def padding(self, tokens: int) -> Ids:
        """Return this number of padding tokens."""
        return np.full(tokens, self.padding_id, np.int32)


class PairTokenizer:
    """A faster equivalent of `tokenizer` with truncation of pairs to `max_length`.

    `special` is the number of special tokens around the texts of a pair: see `PairLayout`.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, special: int = 3
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
        if self._remembered_chars > REMEMBERED_TEXT_CHARS:
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


class TextTokenizer:
    """Token ids of texts, with a tokenizer of any kind."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend

    def encode(self, texts: Sequence[str], at_most: int, totals: dict[str, int]) -> list[bytes]:
        """Return the first `at_most` ids of each text, without special tokens, as bytes.

        `totals` receives about how many ids each text has that has more.
        """
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        totals.update(
            (text, len(encoding))
            for text, encoding in zip(texts, encodings, strict=True)
            if len(encoding) > at_most
        )
        return [_as_bytes(encoding.ids[:at_most]) for encoding in encodings]

    def count(self, text: str) -> int:
        """Return the number of tokens of a whole text."""
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def pieces(self, text: str) -> Pieces:
        """Return the words of a text, and the tokens of long words."""
        return of_tokens(text, self._backend.encode(text, add_special_tokens=False).offsets)


class WordTokenizer(TextTokenizer):
    """Token ids of texts, with a tokenizer for which spaces always end words (`splits_at_spaces`).

    Each word is tokenized once and remembered, because a lookup is about thirty times as fast as
    tokenizing.
    """

    def __init__(self, backend: Tokenizer) -> None:
        super().__init__(backend)
        #: The ids of each word, as bytes: joining these is faster than joining lists.
        self._known: dict[str, bytes] = {}
        self._chars = 0
        #: If a text is cut, only this many ids at its end can be others than in the whole text. A
        #: longer word is a single id, of an unknown word.
        self._unsure_ids = backend.model.max_input_chars_per_word + max(
            (len(token.content) for token in backend.get_added_tokens_decoder().values()), default=0
        )

    def encode(self, texts: Sequence[str], at_most: int, totals: dict[str, int]) -> list[bytes]:
        """Return the first `at_most` ids of each text, without special tokens, as bytes.

        `totals` receives about how many ids each text has that has more. This is estimated from the
        number of characters that are not tokenized.
        """
        # This many words nearly always yield enough ids, so the rest of a long text is not read.
        split = [text.split(" ", at_most) for text in texts]
        heads = self._heads(texts, split, at_most, totals)
        for place in heads:
            split[place] = []
        encoded: list[bytes] = []
        try:
            encoded += (self._text(words, at_most) for words in split)
        except KeyError:  # a new word
            left = split[len(encoded) :]
            self._tokenize_new(chain.from_iterable(words[:at_most] for words in left))
            encoded += [self._text(words, at_most) for words in left]
        most = at_most * ID_BYTES
        for place, ids in enumerate(encoded):
            if len(ids) > most:
                totals[texts[place]] = _estimated(ids, split[place], at_most, len(texts[place]))
                encoded[place] = ids[:most]
            elif len(ids) == most and len(split[place]) > at_most:
                totals[texts[place]] = _estimated(ids, split[place], at_most, len(texts[place]))
        for place, ids in heads.items():
            encoded[place] = ids
        return encoded

    def _heads(
        self,
        texts: Sequence[str],
        split: Sequence[list[str]],
        at_most: int,
        totals: dict[str, int],
    ) -> dict[int, bytes]:
        """Return the first ids of texts with long words, by their place, if their start has them.

        The time does then not depend on the length of the text.
        """
        sure, heads = at_most + self._unsure_ids, {}
        for place, (text, words) in enumerate(zip(texts, split, strict=True)):
            unread = len(words[at_most]) if len(words) > at_most else 0
            if len(text) - unread <= LONG_CHARS_PER_ID * at_most:
                continue
            head = text[: HEAD_CHARS_PER_ID * sure]
            ids = self._backend.encode(head, add_special_tokens=False).ids
            if sure <= len(ids) and len(head) < len(text):
                heads[place] = _as_bytes(ids[:at_most])
                totals[text] = round(len(ids) * len(text) / len(head))
        return heads

    def pieces(self, text: str) -> Pieces:
        """Return the words of a text, and the tokens of long words."""
        words = text.split()
        if missing := set(words).difference(self._known):
            self._tokenize_new(words if self._chars > REMEMBERED_CHARS else missing)
        tokens = np.fromiter(map(len, map(self._known.__getitem__, words)), np.int64, len(words))
        return of_words(text, tokens // ID_BYTES, super().pieces)

    def _text(self, words: list[str], at_most: int) -> bytes:
        """Return at least the first `at_most` ids of a text, or all."""
        ids = b"".join(map(self._known.__getitem__, words[:at_most]))
        if len(ids) < at_most * ID_BYTES and at_most < len(words):
            # Words without tokens: spaces, control characters.
            rest = self._backend.encode(words[at_most], add_special_tokens=False)
            ids += _as_bytes(rest.ids)
        return ids

    def _tokenize_new(self, words: Iterable[str]) -> None:
        if self._chars > REMEMBERED_CHARS:
            self._known, self._chars = {}, 0
        new = list(set(words).difference(self._known))
        encodings = self._backend.encode_batch_fast(new, add_special_tokens=False)
        self._known.update(
            (word, _as_bytes(each.ids)) for word, each in zip(new, encodings, strict=True)
        )
        self._chars += sum(map(len, new))


def _estimated(ids: bytes, words: list[str], at_most: int, chars: int) -> int:
    """Return about how many ids a text has. Its first `at_most` words have `ids`."""
    tokens = len(ids) // ID_BYTES
    rest = len(words[at_most]) if len(words) > at_most else 0
    return tokens + round(tokens * rest / max(1, chars - rest))


def _as_bytes(ids: list[int]) -> bytes:
    return array(ID_TYPE, ids).tobytes()


def _as_array(ids: bytes) -> Ids:
    return np.frombuffer(ids, np.int32)


def splits_at_spaces(backend: Tokenizer) -> bool:
    """Return whether the ids of a text are those of its space-separated words, concatenated.

    That is true of BERT: its normaliser works on single characters, its pre-tokenizer ends words at
    white space, and WordPiece handles one word at a time.
    """
    added = backend.get_added_tokens_decoder().values()
    return (
        isinstance(backend.normalizer, BertNormalizer)
        and isinstance(backend.pre_tokenizer, BertPreTokenizer)
        and isinstance(backend.model, WordPiece)
        # A normalized token matches text in which tabs have become spaces.
        and not any(
            token.lstrip or token.rstrip or [token.content] != token.content.split()
            for token in added
        )
    )
