"""Prepare names for messages: without credentials, and with visible characters only.

Different names look different, except for their credentials.
"""

from __future__ import annotations

import re
import unicodedata

from contract.printable import escaped

#: Letters and marks, according to Unicode, that are invisible.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


_HIDDEN = "***"
_URL = re.compile(
    r"""
    (?P<protocol> [a-z][a-z0-9+.-]* ://)
    # A login; in the second form, the password has characters that should have been encoded.
    (?P<login> [^\s/?\#]* @ | [^\s/?\#:@]* : (?! \d+ (?: [/?\#] | $)) \S* @)?
    (?P<path> [^\s?\#]*)
    (?P<query> [?\#] [^\s'"]*)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
#: Parameters of an address whose protocol has a typing error.
_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:sig|token|key|secret|password|credential)[^=&\s]*=)[^&\s'\"]*", re.IGNORECASE
)


def without_credentials(text: str) -> str:
    """Return a text whose URLs have neither logins nor queries, which may contain signatures."""
    return _PARAMETER.sub(rf"\1{_HIDDEN}", _URL.sub(_without_credentials, text))


def _without_credentials(url: re.Match[str]) -> str:
    login = f"{_HIDDEN}@" if url["login"] else ""
    query = f"?{_HIDDEN}" if url["query"] else ""
    return f"{url['protocol']}{login}{url['path']}{query}"


def shown(name: str) -> str:
    """Return the name of a file or a column for a message."""
    return _escaped(without_credentials(name) if "/" in name else name)


def quoted(name: str) -> str:
    """Return an id or any other text for a message, in quotes."""
    return f"'{_escaped(name)}'"


def _escaped(name: str) -> str:
    """Return `name` with line breaks and invisible characters as Python escape sequences."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(char if _visible(char) else escaped(char) for char in name)


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
