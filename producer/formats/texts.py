"""The record of a corpus, or of a file of queries."""

from __future__ import annotations

from typing import NamedTuple

from producer.files.quoting import quoted


class Text(NamedTuple):
    """A query or a document."""

    id: str
    text: str


def checked_length(text: Text, max_chars: int) -> Text:
    """Return the text. Raises `ValueError` if it is too long."""
    if len(text.text) > max_chars:
        raise ValueError(
            f"the text of {quoted(text.id)} has {len(text.text):,} characters; the limit is"
            f" {max_chars:,} (RERANKQ_MAX_TEXT_CHARS)"
        )
    return text
