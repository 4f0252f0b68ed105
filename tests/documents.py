"""A query, and documents that are short, or longer than the model's maximum length."""

from __future__ import annotations

QUERY = "edit mp3 tags from the terminal"
SHORT = ("a mail client", "a command line editor for ID3 tags of MP3 files", "a chess game")


def long_documents(number: int) -> list[str]:
    """Return this many different documents that are longer than the model's maximum length."""
    return [f"{place} " + "a long text about this and that " * 75 for place in range(number)]
