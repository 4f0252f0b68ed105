"""Makes text from others safe to print.

Characters that would move a cursor, change a colour, reverse the writing direction or forge a line
are shown as escape sequences.
"""

from __future__ import annotations

import re
import unicodedata

#: Control characters, format characters (bidirectional ones, zero-width ones), surrogates, and the
#: separators of lines and paragraphs.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: object, keep: str = "") -> str:
    """Return the text with each invisible character as Python writes it, such as `\\x1b`.

    Those in `keep` stay as they are.
    """
    given = str(text)
    if given.isprintable():
        return given
    return "".join(
        each if each in keep or unicodedata.category(each) not in _INVISIBLE else escaped(each)
        for each in given
    )


def visible_json(text: str, *, ascii_only: bool = False) -> str:
    """Return the JSON document with each invisible character as JSON escapes it: the same data."""
    return _NOT_ASCII.sub(
        lambda found: (
            _json_escaped(found[0])
            if ascii_only or unicodedata.category(found[0]) in _INVISIBLE
            else found[0]
        ),
        text,
    )


#: JSON escapes what comes before these itself.
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def escaped(character: str) -> str:
    """Return the character as Python writes it in a string, such as `\\x1b`."""
    return character.encode("unicode_escape").decode()


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
