"""The rules that a passage must follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.prose.passages import Passage

MAX_WORDS = 30
PHRASES = Path(__file__).with_name("phrases.txt")

_END_OF_SENTENCE = re.compile(r"(?<=[.!?])[\")]?\s+(?=[\"(A-Z0-9]|code\b)")


@dataclass(frozen=True)
class Phrase:
    """A phrase to avoid, and what to write instead."""

    pattern: re.Pattern[str]
    advice: str


def phrases(text: str | None = None) -> list[Phrase]:
    """Read the list of phrases to avoid."""
    lines = (PHRASES.read_text() if text is None else text).splitlines()
    entries = [line for line in lines if line.strip() and not line.startswith("#")]
    pairs = [re.split(r"\s{2,}", line, maxsplit=1) for line in entries]
    return [Phrase(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in pairs]


def faults(passage: Passage, avoided: list[Phrase]) -> Iterator[str]:
    """Yield a line for each fault of a passage."""
    for sentence in sentences(passage.text):
        words = sum(any(map(str.isalnum, word)) for word in sentence.split())
        if words > MAX_WORDS:
            yield f"{passage.place}: {words} words, of at most {MAX_WORDS}: {sentence}"
        for phrase in avoided:
            if found := phrase.pattern.search(sentence):
                yield f"{passage.place}: {found[0]!r}: {phrase.advice}: {sentence}"


def sentences(text: str) -> list[str]:
    """Split a passage into sentences."""
    return [each.strip() for each in _END_OF_SENTENCE.split(text) if each.strip()]
