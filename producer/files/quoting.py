"""Escape invisible characters in names, so that different names look different in messages."""

from __future__ import annotations

import unicodedata

from contract.printable import escaped

#: Letters and marks, according to Unicode, that are invisible.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def shown(name: str) -> str:
    """Return `name` with line breaks and invisible characters as Python escape sequences."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(char if _visible(char) else escaped(char) for char in name)


def quoted(name: str) -> str:
    """Return `name` as `shown`, in quotes."""
    return f"'{shown(name)}'"


def normalized(name: str) -> str:
    """Return the name case-folded, without quotes, spaces and invisible characters.

    Similar names have the same normalized form.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(
        char for char in folded if _visible(char) and not char.isspace() and char not in "\"'"
    )


def _visible(char: str) -> bool:
    if char == " ":
        return True
    return char.isprintable() and char not in _BLANK_LETTERS and not unicodedata.combining(char)
