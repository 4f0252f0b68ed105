"""Validate a Redis URL, with messages that never contain its password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from contract import redis_tls, sentinel_url

_FORM = "redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS"
_ENCODE = (
    "in the password, percent-encode every character except letters and digits:"
    " # as %23, / as %2F, : as %3A, ? as %3F, @ as %40, % as %25"
)
_MALFORMED = f"must have the form {_FORM}; {_ENCODE}"
NO_CLUSTER = (
    "Redis Cluster is not supported, because a job's keys would be on several servers; use a single"
    " server, or a primary with replicas and Sentinel"
)
#: Schemes of redis-py and kombu that rerankq does not support, and the reasons.
_OTHER_SCHEMES = {
    "unix": "Unix sockets are not supported",
    "redis+socket": "Unix sockets are not supported",
    "socket": "Unix sockets are not supported",
    **dict.fromkeys(
        ("redis+cluster", "rediss+cluster", "redis-cluster", "rediss-cluster", "cluster"),
        f"{NO_CLUSTER}: {sentinel_url.FORM}",
    ),
}


def check(url: str) -> None:
    """Raise `ValueError` if the URL or its query cannot be used."""
    if not url:
        raise ValueError(f"must not be empty; use {_FORM}")
    if url[0] in "'\"`" or url[-1] in "'\"`":
        raise ValueError("must not be in quotation marks")
    if url.partition("://")[0] in sentinel_url.SCHEMES:
        _check_sentinel(url)
    else:
        _check_address(url)
        redis_tls.check(url)


def _check_sentinel(url: str) -> None:
    # Not split as a whole, because `urlsplit` allows an IPv6 address only as the first host.
    _check_no_white_space(url)
    for server in sentinel_url.servers(url):
        _check_address(server)
    sentinel_url.check(url)


def _check_address(url: str) -> None:
    parts = _split(url)
    if parts.scheme not in ("redis", "rediss"):
        reason = _OTHER_SCHEMES.get(parts.scheme)
        raise ValueError(
            "must begin with redis://, rediss:// or sentinel://" + (f"; {reason}" if reason else "")
        )
    # An at sign after the host means that the parsed host is a part of the password.
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment or "\\" in url:
        raise ValueError(_MALFORMED)
    login, _, server = parts.netloc.rpartition("@")
    if re.search(r"%(?![0-9A-Fa-f]{2})", login) or re.search(r"[@:]", login.partition(":")[2]):
        raise ValueError(_MALFORMED)
    _check_server(parts, server)
    if not re.fullmatch(r"/?\d{0,9}", parts.path):
        raise ValueError(f"has no database number after the host; use {_FORM}")


def _check_no_white_space(url: str) -> None:
    # `urlsplit` drops newlines and tabs silently.
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"must not contain white space; {_ENCODE}")


def _split(url: str) -> SplitResult:
    _check_no_white_space(url)
    try:
        return urlsplit(url)
    except ValueError:  # its message may contain the password
        raise ValueError(_MALFORMED) from None


def _check_server(parts: SplitResult, server: str) -> None:
    try:
        _ = parts.port
        known = not server.endswith(":")
    except ValueError:
        known = False
    if not known:
        if server.count(":") > 1 and not server.startswith("["):
            raise ValueError("has more than one colon in HOST:PORT; enclose an IPv6 address in [ ]")
        raise ValueError(
            "has no port from 0 to 65535 after the host; if this part is a password, percent-encode"
            " it and add @HOST"
        )
    if not parts.hostname:
        raise ValueError(f"has no host; use {_FORM}")
