"""Split a line of a TREC file into its columns."""

from __future__ import annotations


def split_words(line: str) -> list[str]:
    """Split a line at spaces and tabs only, because other white space may be part of an id."""
    words = line.replace("\t", " ").split(" ")
    return [word for word in words if word] if "" in words else words
