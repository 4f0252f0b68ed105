"""Pairs for testing a model before it is used, and the tolerances for their scores."""

from __future__ import annotations

from worker.engine.protocol import Pair

#: Maximum difference of a logit from `predict`'s. Half precision has 3 digits, bfloat16 has 2.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}

#: Pairs of mixed lengths, from empty texts to more than any BERT reads.
PROBES: tuple[Pair, ...] = (
    ("how do I open a pdf", ""),
    ("Größe ändern", "日本語 and Ünïcode\twith  spaces, [SEP] and punctuation..."),
    ("how do I open a pdf", "a tool to open and print PDF files"),
    ("a mail server", "a mail server delivers messages to local users; " * 4),
    ("how do I open a pdf", "some words of a document that is too long to be read at all, " * 150),
)

#: In one batch, all but the longest are padded.
UNEQUAL_PROBES = [PROBES[0], *PROBES[2:4]]

#: The mean length of made-up pairs, in tokens.
MEAN_TOKENS = 90


def made_up_pairs(tokens: int, shortest: int, longest: int) -> list[Pair]:
    """Return pairs as long as passages (40 to 140 tokens), `tokens` in total, to measure with.

    `shortest` is the number of tokens of two words, and `longest` that of the longest pair.
    """
    lengths = [min(MEAN_TOKENS + more, longest) for more in range(-50, 51, 10)]
    pairs = [("a", " ".join(["a"] * max(1, 1 + length - shortest))) for length in lengths]
    return pairs * max(1, round(tokens / (MEAN_TOKENS * len(pairs))))
