"""Pairs that a model is tried with before it serves, and how far their scores may be off."""

from __future__ import annotations

from worker.engine.protocol import Pair

#: How far a logit may be from `predict`'s. Half precision rounds to 3 digits, bfloat16 to 2.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}

#: Of mixed lengths, from nothing to more than any BERT reads.
PROBES: tuple[Pair, ...] = (
    ("how do I open a pdf", ""),
    ("Größe ändern", "日本語 and Ünïcode\twith  spaces, [SEP] and punctuation..."),
    ("how do I open a pdf", "a tool to open and print PDF files"),
    ("a mail server", "a mail server delivers messages to local users; " * 4),
    ("how do I open a pdf", "some words of a document that is too long to be read at all, " * 150),
)

#: In one batch, each but the longest is padded.
UNEQUAL_PROBES = [PROBES[0], *PROBES[2:4]]
