"""Token ids of single texts: with a tokenizer of any kind, or faster, word by word."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from worker.engine.pieces import Pieces, of_tokens, of_words

#: Maximum characters of all remembered words: some 50,000 words, or 12 MB.
REMEMBERED_CHARS = 400_000

#: The type of an id in `array`, and its size: int32.
ID_TYPE, ID_BYTES = "i", 4

#: Of words with this many characters for each id that is read, only the first are tokenized: they
#: are text without spaces, such as Chinese.
LONG_CHARS_PER_ID, HEAD_CHARS_PER_ID = 8, 4


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
