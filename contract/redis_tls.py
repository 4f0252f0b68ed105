"""Read the TLS options in the query of a `rediss://` URL, under redis-py's names.

Certificates and host names are verified unless the URL disables it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

CERT_REQS = "ssl_cert_reqs"
CHECK_HOSTNAME = "ssl_check_hostname"
CA_CERTS = "ssl_ca_certs"
CERTFILE = "ssl_certfile"
KEYFILE = "ssl_keyfile"
OPTIONS = (CA_CERTS, CERTFILE, KEYFILE, CERT_REQS, CHECK_HOSTNAME)

#: Only these values, because redis-py, kombu and Celery interpret all others differently.
_ALLOWED = {CERT_REQS: ("required", "none"), CHECK_HOSTNAME: ("true", "false")}


def options(url: str) -> dict[str, Any] | None:
    """Return keyword arguments for redis-py and Celery to connect to `url`; None without TLS."""
    parts = urlsplit(url)
    return with_defaults(dict(parse_qsl(parts.query))) if parts.scheme == "rediss" else None


def with_defaults(given: Mapping[str, str]) -> dict[str, Any]:
    """Return keyword arguments for redis-py and Celery with these options."""
    checked = given.get(CHECK_HOSTNAME, "true") == "true"
    return {CERT_REQS: "required", **given, CHECK_HOSTNAME: checked}


def check(url: str) -> None:
    """Raise `ValueError` if the query has unknown options, or files that cannot be used."""
    parts = urlsplit(url)
    how = None if parts.scheme == "rediss" else "use rediss://"
    check_options(parse_qs(parts.query, keep_blank_values=True), how)


def check_options(query: Mapping[str, Sequence[str]], how: str | None) -> None:
    """Raise `ValueError` if an option cannot be used; `how` to use TLS, if that is not used."""
    for name, values in query.items():
        if name not in OPTIONS:
            # The name is not shown, because it may contain a part of a password.
            raise ValueError(f"may have only the query options {', '.join(OPTIONS)}")
        if how is not None:
            raise ValueError(f"{name} requires TLS; {how}")
        allowed = _ALLOWED.get(name)
        if len(values) > 1 or not values[0] or (allowed and values[0] not in allowed):
            raise ValueError(f"{name} must be {' or '.join(allowed or ('the path of a file',))}")
    files = {name: values[0] for name, values in query.items() if name not in _ALLOWED}
    if KEYFILE in files and CERTFILE not in files:
        raise ValueError(f"{KEYFILE} requires {CERTFILE}")
    _load(files)


def _load(files: dict[str, str]) -> None:
    """Raise `ValueError` if OpenSSL cannot load these files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # OpenSSL does not report which file is missing.
    for name, path in files.items():
        try:
            Path(path).open("rb").close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{name}: cannot read {path!r} ({reason})") from None
    try:
        if CA_CERTS in files:
            context.load_verify_locations(files[CA_CERTS])
    except ssl.SSLError as error:
        raise ValueError(f"{CA_CERTS}: {files[CA_CERTS]!r} has no certificate ({error})") from None
    try:
        if CERTFILE in files:
            # Without a password, OpenSSL would prompt for one on the terminal.
            context.load_cert_chain(files[CERTFILE], files.get(KEYFILE), password="")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"{CERTFILE}: cannot use {files[CERTFILE]!r} with its key ({error})"
        ) from None


def find_tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the TLS error in an error's chain of causes, if there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
