"""Validate a Redis URL, with messages that never contain its password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_SHAPE = "redis://USER:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS"
_ENCODE = (
    f"must be {_SHAPE}; percent-encode all characters of a password but letters and digits:"
    " # as %23, / as %2F, : as %3A, ? as %3F, @ as %40, % as %25"
)
#: Schemes of redis-py and kombu that rerankq does not support, and the reasons.
_OTHER_SCHEMES = {
    "unix": "Unix sockets are not supported",
    "redis+socket": "Unix sockets are not supported",
    "socket": "Unix sockets are not supported",
    "sentinel": "Sentinel is not supported: give the address that follows the primary",
    "redis+sentinel": "Sentinel is not supported: give the address that follows the primary",
}


def check(url: str) -> None:
    """Raise `ValueError` if the URL cannot be used; `contract.redis_tls` checks its query."""
    if not url:
        raise ValueError(f"is empty: it must be {_SHAPE}")
    if url[0] in "'\"`" or url[-1] in "'\"`":
        raise ValueError("has quotation marks around it: leave them out")
    parts = _split(url)
    if parts.scheme not in ("redis", "rediss"):
        reason = _OTHER_SCHEMES.get(parts.scheme)
        raise ValueError(
            "must begin with redis:// or rediss://" + (f": {reason}" if reason else "")
        )
    # An at sign after the host means that the parsed host is a part of the password.
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment or "\\" in url:
        raise ValueError(_ENCODE)
    login, _, server = parts.netloc.rpartition("@")
    if re.search(r"%(?![0-9A-Fa-f]{2})", login) or re.search(r"[@:]", login.partition(":")[2]):
        raise ValueError(_ENCODE)
    _check_server(parts, server)
    if not re.fullmatch(r"/?\d{0,9}", parts.path):
        raise ValueError(f"has no number of a database behind its host: it must be {_SHAPE}")


def _split(url: str) -> SplitResult:
    # `urlsplit` drops newlines and tabs silently.
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"has white space in it: {_ENCODE}")
    try:
        return urlsplit(url)
    except ValueError:  # its message may contain the password
        raise ValueError(_ENCODE) from None


def _check_server(parts: SplitResult, server: str) -> None:
    try:
        _ = parts.port
        known = not server.endswith(":")
    except ValueError:
        known = False
    if not known:
        if server.count(":") > 1 and not server.startswith("["):
            raise ValueError("has more than one colon in HOST:PORT: put an IPv6 address in [ ]")
        raise ValueError(
            "has no port from 0 to 65535 behind its host; if that is part of a password, percent-"
            "encode it and put @HOST behind it"
        )
    if not parts.hostname:
        raise ValueError(f"names no host: it must be {_SHAPE}")
