"""Find where a text may be cut: between its words, and between the tokens of long words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

#: A word of more tokens may be cut: a text without spaces, or a language without them.
MOST_OF_A_WORD = 16
#: Characters that are tokenized at once. A word across the limit is longer than `LONGEST_WORD`.
CHARS_AT_ONCE = 100_000
LONGEST_WORD = 1_000

_SPACES = np.zeros(0x3100, np.bool_)
_SPACES[[code for code in range(len(_SPACES)) if chr(code).isspace()]] = True


@dataclass(frozen=True)
class Pieces:
    """Parts of a text, in their order, that a passage is not cut within."""

    #: The place of each in the text, in characters.
    begins: Numbers
    ends: Numbers
    #: The number of tokens of each.
    tokens: Numbers

    def __len__(self) -> int:
        return len(self.tokens)

    def moved(self, chars: int) -> Pieces:
        """Return the pieces in a text that has as many characters before them."""
        return Pieces(self.begins + chars, self.ends + chars, self.tokens)

    @classmethod
    def joined(cls, parts: Sequence[Pieces]) -> Self:
        """Return all pieces of the parts."""
        return cls(
            np.concatenate([each.begins for each in parts]),
            np.concatenate([each.ends for each in parts]),
            np.concatenate([each.tokens for each in parts]),
        )


def of_words(text: str, tokens: Numbers, pieces: Callable[[str], Pieces]) -> Pieces:
    """Return the pieces of a text whose words, separated by white space, have these tokens.

    `pieces` returns those of a long word.
    """
    begins, ends = _word_bounds(text)
    if not np.any(tokens > MOST_OF_A_WORD):
        return Pieces(begins, ends, tokens)
    parts: list[Pieces] = []
    done = 0
    for place in np.flatnonzero(tokens > MOST_OF_A_WORD).tolist():
        parts.append(Pieces(begins[done:place], ends[done:place], tokens[done:place]))
        begin = int(begins[place])
        parts.append(pieces(text[begin : int(ends[place])]).moved(begin))
        done = place + 1
    parts.append(Pieces(begins[done:], ends[done:], tokens[done:]))
    return Pieces.joined(parts)


def words_of(text: str) -> Pieces:
    """Return the words of a text as one token each."""
    begins, ends = _word_bounds(text)
    return Pieces(begins, ends, np.ones(len(begins), np.int64))


def of_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> Pieces:
    """Return the pieces of a text whose tokens have these places."""
    places = np.array(offsets, np.int64).reshape(-1, 2)
    begins, ends = places[:, 0], places[:, 1]
    spaces = np.append(_spaces(text), False)
    # Some tokenizers count the space before a word to its first token.
    begins = np.minimum(begins + spaces[begins], ends)
    word = np.cumsum(spaces)[begins]
    starts = np.append(True, word[1:] != word[:-1])[: len(word)]
    sizes = np.diff(np.append(np.flatnonzero(starts), len(word)))
    # A character can have several tokens, all with its place.
    after_others = begins >= np.append(0, np.maximum.accumulate(ends))[:-1]
    starts |= np.repeat(sizes > MOST_OF_A_WORD, sizes) & after_others
    first = np.flatnonzero(starts)
    if not len(first):
        return Pieces(first, first, first)
    return Pieces(
        begins[first],
        np.maximum.reduceat(ends, first),
        np.diff(np.append(first, len(word))),
    )


def segments(text: str) -> Iterator[tuple[int, str]]:
    """Yield parts of a text with their places; each is short enough to be tokenized at once."""
    begin = 0
    while begin < len(text):
        end = begin + CHARS_AT_ONCE
        if end < len(text):
            space = max(text.rfind(each, end - LONGEST_WORD, end) for each in " \n\t")
            end = space + 1 if space > 0 else end
        yield begin, text[begin:end]
        begin = end


def at_least(text: str, tokens: int, pieces: Callable[[str], Pieces]) -> tuple[Pieces, int]:
    """Return the first pieces of a text, with at least as many tokens, and their characters.

    All pieces are returned if there are not as many.
    """
    parts = [Pieces(*np.zeros((3, 0), np.int64))]
    found = end = 0
    for begin, part in segments(text):
        parts.append(pieces(part).moved(begin))
        found, end = found + int(parts[-1].tokens.sum()), begin + len(part)
        if found >= tokens:
            break
    return Pieces.joined(parts), end


def _word_bounds(text: str) -> tuple[Numbers, Numbers]:
    """Return where the words that `text.split()` returns begin and end."""
    in_word = np.zeros(len(text) + 2, np.bool_)
    in_word[1:-1] = ~_spaces(text)
    changes = np.flatnonzero(in_word[1:] != in_word[:-1])
    return changes[::2], changes[1::2]


def _spaces(text: str) -> npt.NDArray[np.bool_]:
    """Return which characters are white space."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return _SPACES[np.minimum(codes, len(_SPACES) - 1)]
