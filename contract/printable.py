"""Make untrusted text safe to print, and print numbers with their nouns.

Characters that would move the cursor, change a color, reverse the writing direction or forge a
line are shown as escape sequences.
"""

from __future__ import annotations

import re
import unicodedata

#: Control characters, format characters (bidirectional, zero-width), surrogates, and line and
#: paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: object, keep: str = "") -> str:
    """Return the text with invisible characters as Python escape sequences, such as `\\x1b`.

    Characters in `keep` are not escaped.
    """
    given = str(text)
    if given.isprintable():
        return given
    return "".join(
        each if each in keep or unicodedata.category(each) not in _INVISIBLE else escaped(each)
        for each in given
    )


def shortened(text: str, at_most: int = 200) -> str:
    """Return the text, or its beginning and `...` if it has more than `at_most` characters."""
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 pair`, `2,000 pairs`, `2 queries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def reason_of(error: BaseException) -> str:
    """Return the message of an error in one line; the name of its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def visible_json(text: str, *, ascii_only: bool = False) -> str:
    """Return the same JSON document with invisible characters as JSON escape sequences."""
    return _NOT_ASCII.sub(
        lambda found: (
            _json_escaped(found[0])
            if ascii_only or unicodedata.category(found[0]) in _INVISIBLE
            else found[0]
        ),
        text,
    )


#: Matches DEL too, which JSON encoders do not escape.
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def escaped(character: str) -> str:
    """Return the Python escape sequence of a character, such as `\\x1b`."""
    return character.encode("unicode_escape").decode()


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
