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
